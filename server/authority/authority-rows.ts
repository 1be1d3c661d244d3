import { createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { createSelfSignedCa } from '../../identity/x509/ca.ts';
import { parseCertificate } from '../../identity/x509/certificate.ts';
import { generateKey, spkiOf } from '../../identity/x509/key.ts';
import type { Reader, Row, Transaction } from '../plugins/datastore/datastore.ts';
import { blob, instant, integer, text } from '../plugins/datastore/row.ts';
import type { KeyManager } from '../plugins/key-manager/key-manager.ts';

/** A signing key of the trust domain, as the store knows it; its private half is the key manager's. */
export interface AuthorityRow {
  /** X.509: the subject key id in hex. JWT: the key id. */
  readonly id: string;
  readonly kind: 'x509' | 'jwt';
  readonly state: 'prepared' | 'active' | 'old';
  /** DER; X.509 alone. */
  readonly certificate: Uint8Array | undefined;
  readonly publicKey: KeyObject;
  readonly notAfter: Date;
  readonly tainted: boolean;
}

/** An authority that signs. */
export interface ActiveAuthority {
  readonly row: AuthorityRow;
  readonly privateKey: KeyObject;
}

/** All authorities of the store, the active ones first, then the newest. */
export async function listAuthorities(reader: Reader): Promise<AuthorityRow[]> {
  const rows = await reader.all(
    `select * from authorities order by state = 'active' desc, not_before_ms desc, id`,
  );
  return rows.map(authorityFromRow);
}

/** Makes an authority and keeps its key before its row, so that a row never lacks its key. */
export async function createAuthority(
  tx: Transaction,
  kind: 'x509' | 'jwt',
  options: {
    readonly trustDomain: TrustDomain;
    readonly keys: KeyManager;
    readonly now: Date;
    readonly notAfter: Date;
  },
): Promise<string> {
  const { trustDomain, keys, now, notAfter } = options;
  const made = kind === 'x509' ? await makeX509(trustDomain, now, notAfter) : await makeJwt();
  await keys.store(keyName(kind, made.id), made.privateKey);
  await tx.run(
    `insert into authorities
       (id, kind, state, certificate, public_key, not_before_ms, not_after_ms)
     values (?, ?, 'active', ?, ?, ?, ?)`,
    made.id,
    kind,
    made.certificate,
    spkiOf(made.privateKey),
    now.getTime(),
    // A certificate ends on a whole second.
    made.certificate === null
      ? notAfter.getTime()
      : parseCertificate(made.certificate).notAfter.getTime(),
  );
  return made.id;
}

/** The row's private key, undefined if the key manager has lost it. */
export async function loadAuthorityKey(
  row: AuthorityRow,
  keys: KeyManager,
): Promise<KeyObject | undefined> {
  const key = await keys.load(keyName(row.kind, row.id));
  return key !== undefined && createPublicKey(key).equals(row.publicKey) ? key : undefined;
}

function keyName(kind: string, id: string): string {
  return `${kind}-${id}`;
}

interface Made {
  readonly id: string;
  readonly privateKey: KeyObject;
  readonly certificate: Uint8Array | null;
}

async function makeX509(trustDomain: TrustDomain, now: Date, notAfter: Date): Promise<Made> {
  const ca = await createSelfSignedCa({ trustDomain, keyType: 'ec-p256', now, notAfter });
  return { id: ca.subjectKeyId, privateKey: ca.privateKey, certificate: ca.certificate };
}

async function makeJwt(): Promise<Made> {
  const privateKey = await generateKey('ec-p256');
  return { id: randomBytes(16).toString('hex'), privateKey, certificate: null };
}

function authorityFromRow(row: Row): AuthorityRow {
  const kind = text(row, 'kind');
  const state = text(row, 'state');
  if (kind !== 'x509' && kind !== 'jwt') throw new Error(`authority kind ${kind}`);
  if (state !== 'prepared' && state !== 'active' && state !== 'old')
    throw new Error(`authority state ${state}`);
  const spki = Buffer.from(blob(row, 'public_key'));
  return {
    id: text(row, 'id'),
    kind,
    state,
    certificate: row.certificate === null ? undefined : blob(row, 'certificate'),
    publicKey: createPublicKey({ key: spki, format: 'der', type: 'spki' }),
    notAfter: instant(row, 'not_after_ms'),
    tainted: integer(row, 'tainted') !== 0,
  };
}
