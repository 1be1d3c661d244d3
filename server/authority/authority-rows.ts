import { createPublicKey, type KeyObject } from 'node:crypto';
import { splitX509Der } from '../../identity/bundle.ts';
import { spkiOf } from '../../identity/x509/key.ts';
import type { Reader, Row, Transaction } from '../plugins/datastore/datastore.ts';
import { blob, instant, integer, text } from '../plugins/datastore/row.ts';

/** The authorities that sign SSH certificates, one for each kind of them. */
export const SSH_KINDS = ['ssh-user', 'ssh-host', 'ssh-gateway'] as const;
export type SshKind = (typeof SSH_KINDS)[number];

export const AUTHORITY_KINDS = ['x509', 'jwt', ...SSH_KINDS] as const;
export type AuthorityKind = (typeof AUTHORITY_KINDS)[number];

const STATES = ['prepared', 'active', 'old'] as const;
export type AuthorityState = (typeof STATES)[number];

/** What makes an authority; its private key is the key manager's. */
export interface AuthorityInit {
  /** X.509: the subject key id in hex. JWT: the key id. SSH: the SHA-256 of the public key in hex. */
  readonly id: string;
  readonly kind: AuthorityKind;
  /** DER; X.509 alone. */
  readonly certificate: Uint8Array | undefined;
  /** DER: what stands between its certificate and a root that is not ours. */
  readonly chain: readonly Uint8Array[];
  /** Hex subject key id of that root, '' for a root of its own. */
  readonly upstreamId: string;
  readonly publicKey: KeyObject;
  /** What the key manager calls its key. */
  readonly keyName: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** A signing key of the trust domain, as the store knows it. */
export interface AuthorityRow extends AuthorityInit {
  readonly state: AuthorityState;
  /** About to be withdrawn. */
  readonly tainted: boolean;
  readonly taintedAt: Date | undefined;
}

/** All authorities of the store, the active ones first, then the newest. */
export async function listAuthorities(reader: Reader): Promise<AuthorityRow[]> {
  const rows = await reader.all(
    `select * from authorities
     order by case when state = 'active' then 0 else 1 end, not_before_ms desc, id`,
  );
  return rows.map(authorityFromRow);
}

export async function insertAuthority(
  tx: Transaction,
  made: AuthorityInit,
  state: AuthorityState,
): Promise<void> {
  await tx.run(
    `insert into authorities (id, kind, state, certificate, public_key, not_before_ms,
       not_after_ms, key_name, chain, upstream_id)
     values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    made.id,
    made.kind,
    state,
    made.certificate ?? null,
    spkiOf(made.publicKey),
    made.notBefore.getTime(),
    made.notAfter.getTime(),
    made.keyName,
    made.chain.length === 0 ? null : Buffer.concat(made.chain),
    made.upstreamId,
  );
}

export async function setAuthorityState(
  tx: Transaction,
  id: string,
  state: AuthorityState,
): Promise<void> {
  await tx.run('update authorities set state = ? where id = ?', state, id);
}

export async function taintAuthority(tx: Transaction, id: string, at: Date): Promise<void> {
  await tx.run(
    'update authorities set tainted = 1, tainted_at_ms = ? where id = ?',
    at.getTime(),
    id,
  );
}

export async function deleteAuthority(tx: Transaction, id: string): Promise<void> {
  await tx.run('delete from authorities where id = ?', id);
}

function authorityFromRow(row: Row): AuthorityRow {
  const kind = AUTHORITY_KINDS.find((one) => one === row.kind);
  const state = STATES.find((one) => one === row.state);
  if (kind === undefined) throw new Error(`authority kind ${row.kind}`);
  if (state === undefined) throw new Error(`authority state ${row.state}`);
  const id = text(row, 'id');
  return {
    id,
    kind,
    state,
    certificate: row.certificate === null ? undefined : blob(row, 'certificate'),
    chain: row.chain === null ? [] : splitX509Der(blob(row, 'chain')),
    upstreamId: text(row, 'upstream_id'),
    publicKey: publicKeyFromColumn(row),
    keyName: text(row, 'key_name') || `${kind}-${id}`,
    notBefore: instant(row, 'not_before_ms'),
    notAfter: instant(row, 'not_after_ms'),
    tainted: integer(row, 'tainted') !== 0,
    taintedAt: row.tainted_at_ms === null ? undefined : instant(row, 'tainted_at_ms'),
  };
}

/** The key of a column `public_key`. */
export function publicKeyFromColumn(row: Row): KeyObject {
  const spki = Buffer.from(blob(row, 'public_key'));
  return createPublicKey({ key: spki, format: 'der', type: 'spki' });
}
