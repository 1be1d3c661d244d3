import { createHash, createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { encodePublicKey } from '../../identity/ssh/public-key.ts';
import { createSelfSignedCa } from '../../identity/x509/ca.ts';
import { parseCertificate } from '../../identity/x509/certificate.ts';
import { generateKey, spkiOf } from '../../identity/x509/key.ts';
import type { Reader, Row, Transaction } from '../plugins/datastore/datastore.ts';
import { blob, instant, integer, text } from '../plugins/datastore/row.ts';
import type { KeyManager } from '../plugins/key-manager/key-manager.ts';

/** The authorities that sign SSH certificates, one for each kind of them. */
export const SSH_KINDS = ['ssh-user', 'ssh-host', 'ssh-gateway'] as const;
export type SshKind = (typeof SSH_KINDS)[number];

const KINDS = ['x509', 'jwt', ...SSH_KINDS] as const;
export type AuthorityKind = (typeof KINDS)[number];

/** A signing key of the trust domain, as the store knows it; its private half is the key manager's. */
export interface AuthorityRow {
  /** X.509: the subject key id in hex. JWT: the key id. SSH: the SHA-256 of the public key in hex. */
  readonly id: string;
  readonly kind: AuthorityKind;
  readonly state: 'prepared' | 'active' | 'old';
  /** DER; X.509 alone. */
  readonly certificate: Uint8Array | undefined;
  readonly publicKey: KeyObject;
  readonly notAfter: Date;
  readonly tainted: boolean;
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
  kind: AuthorityKind,
  options: {
    readonly trustDomain: TrustDomain;
    readonly keys: KeyManager;
    readonly now: Date;
    readonly notAfter: Date;
  },
): Promise<string> {
  const { trustDomain, keys, now, notAfter } = options;
  const made = await make(kind, { trustDomain, now, notAfter });
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

async function make(
  kind: AuthorityKind,
  init: { readonly trustDomain: TrustDomain; readonly now: Date; readonly notAfter: Date },
): Promise<Made> {
  if (kind === 'x509') {
    const ca = await createSelfSignedCa({ ...init, keyType: 'ec-p256' });
    return { id: ca.subjectKeyId, privateKey: ca.privateKey, certificate: ca.certificate };
  }
  const privateKey = await generateKey(kind === 'jwt' ? 'ec-p256' : 'ed25519');
  const id =
    kind === 'jwt'
      ? randomBytes(16).toString('hex')
      : createHash('sha256').update(encodePublicKey(privateKey)).digest('hex');
  return { id, privateKey, certificate: null };
}

function authorityFromRow(row: Row): AuthorityRow {
  const kind = KINDS.find((one) => one === row.kind);
  const state = text(row, 'state');
  if (kind === undefined) throw new Error(`authority kind ${row.kind}`);
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
