/** Authorities that stand in our bundle and are not ours to sign with. */
import { createHash, type KeyObject } from 'node:crypto';
import { type JwtAuthority, type X509Authority, x509Authority } from '../../identity/bundle.ts';
import { publicKeyOf } from '../../identity/x509/certificate.ts';
import { spkiOf, subjectKeyIdOf } from '../../identity/x509/key.ts';
import type { Reader, Row, Transaction } from '../plugins/datastore/datastore.ts';
import { blob, instant, text } from '../plugins/datastore/row.ts';
import { publicKeyFromColumn } from './authority-rows.ts';

const SOURCES = ['upstream', 'published', 'appended'] as const;
/** From the upstream authority, published by a server below ours, or appended by an operator. */
export type TrustedSource = (typeof SOURCES)[number];

export interface TrustedRow {
  readonly kind: 'x509' | 'jwt';
  /** X.509: hex SHA-256 of the certificate. JWT: the key id. */
  readonly id: string;
  readonly source: TrustedSource;
  /** DER; X.509 alone. */
  readonly certificate: Uint8Array | undefined;
  readonly publicKey: KeyObject;
  /** Hex; '' for a JWT key. */
  readonly subjectKeyId: string;
  /** Undefined: never. */
  readonly notAfter: Date | undefined;
  readonly taintedAt: Date | undefined;
}

export async function listTrusted(reader: Reader): Promise<TrustedRow[]> {
  const rows = await reader.all('select * from trusted_authorities order by kind, source, id');
  return rows.map(trustedFromRow);
}

/** Adds one; one that is there already stays as it is. */
export async function insertTrusted(tx: Transaction, row: TrustedRow): Promise<boolean> {
  const inserted = await tx.run(
    `insert into trusted_authorities
       (kind, id, source, certificate, public_key, subject_key_id, not_after_ms)
     values (?, ?, ?, ?, ?, ?, ?)
     on conflict (kind, id) do nothing`,
    row.kind,
    row.id,
    row.source,
    row.certificate ?? null,
    spkiOf(row.publicKey),
    row.subjectKeyId,
    row.notAfter?.getTime() ?? null,
  );
  return inserted > 0;
}

export async function taintTrusted(tx: Transaction, subjectKeyId: string, at: Date): Promise<void> {
  await tx.run(
    `update trusted_authorities set tainted_at_ms = ? where kind = 'x509' and subject_key_id = ?`,
    at.getTime(),
    subjectKeyId,
  );
}

export async function taintTrustedJwt(tx: Transaction, id: string, at: Date): Promise<void> {
  await tx.run(
    `update trusted_authorities set tainted_at_ms = ? where kind = 'jwt' and id = ?`,
    at.getTime(),
    id,
  );
}

export async function deleteTrusted(
  tx: Transaction,
  { kind, id }: Pick<TrustedRow, 'kind' | 'id'>,
): Promise<void> {
  await tx.run('delete from trusted_authorities where kind = ? and id = ?', kind, id);
}

/**
 * @param der untrusted
 * @throws Fault INVALID_ARGUMENT
 */
export function trustedX509(der: Uint8Array, source: TrustedSource): TrustedRow {
  const { certificate } = x509Authority(der);
  const keyId = certificate.subjectKeyId ?? subjectKeyIdOf(certificate.spki);
  return {
    kind: 'x509',
    id: createHash('sha256').update(certificate.raw).digest('hex'),
    source,
    certificate: certificate.raw,
    publicKey: publicKeyOf(certificate),
    subjectKeyId: Buffer.from(keyId).toString('hex'),
    notAfter: certificate.notAfter,
    taintedAt: undefined,
  };
}

export function trustedJwt(
  { keyId, publicKey, expiresAt }: Pick<JwtAuthority, 'keyId' | 'publicKey' | 'expiresAt'>,
  source: TrustedSource,
): TrustedRow {
  return {
    ...{ kind: 'jwt', id: keyId, source, publicKey, notAfter: expiresAt },
    ...{ certificate: undefined, subjectKeyId: '', taintedAt: undefined },
  };
}

/** As the bundle has it. */
export function bundledX509({ certificate, taintedAt }: TrustedRow): X509Authority[] {
  return certificate === undefined ? [] : [x509Authority(certificate, taintedAt !== undefined)];
}

function trustedFromRow(row: Row): TrustedRow {
  const source = SOURCES.find((one) => one === row.source);
  if (source === undefined) throw new Error(`source ${row.source} of an authority`);
  return {
    kind: row.kind === 'x509' ? 'x509' : 'jwt',
    id: text(row, 'id'),
    source,
    certificate: row.certificate === null ? undefined : blob(row, 'certificate'),
    publicKey: publicKeyFromColumn(row),
    subjectKeyId: text(row, 'subject_key_id'),
    notAfter: row.not_after_ms === null ? undefined : instant(row, 'not_after_ms'),
    taintedAt: row.tainted_at_ms === null ? undefined : instant(row, 'tainted_at_ms'),
  };
}
