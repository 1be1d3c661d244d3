/** Writes the revocation lists of the trust domain's X.509 authorities, one for each. */
import type { Certificate } from '../../identity/x509/certificate.ts';
import { parseCertificate } from '../../identity/x509/certificate.ts';
import { signCrl } from '../../identity/x509/crl.ts';
import type { Datastore, Reader, Transaction } from '../plugins/datastore/datastore.ts';
import type { Authority, CaSigner } from './authority.ts';
import { listHeldLeaves } from './crl-held.ts';
import { listRevokedLeaves, type RevokedLeaf } from './crl-revoked.ts';

/** From thisUpdate to nextUpdate. */
export const CRL_VALIDITY_MS = 60 * 60 * 1000;
/** In all lists together; with them they stay below what one gRPC message holds. */
const MOST_REVOKED = 40_000;
const NUMBER_KEY = 'crl_number';

/** The list of one authority. */
export interface SignedCrl {
  readonly authorityId: string;
  readonly number: bigint;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
  readonly revoked: number;
  readonly der: Uint8Array;
}

/** What is revoked or held back. */
interface NamedLeaves {
  readonly revoked: readonly RevokedLeaf[];
  /** Whether that is all; where lists cannot hold it, those leaves are missing that end first. */
  readonly isComplete: boolean;
}

/** What lists are made from. */
export interface CrlGround extends NamedLeaves {
  readonly signers: readonly CaSigner[];
}

/** The authorities that may have signed leaves which have not ended, and what is revoked. */
export async function readCrlGround(
  reader: Reader,
  authority: Pick<Authority, 'caSigners'>,
  now: Date,
): Promise<CrlGround> {
  const signers = authority
    .caSigners()
    .filter((signer) => signer.state !== 'prepared' && certificateOf(signer).notAfter > now);
  return { signers, ...(await readRevoked(reader, now)) };
}

/**
 * A leaf stays for a validity after its end, so that a later list names it too. Source: RFC 5280 3.3.
 * Too many must not be the end of all lists: without new ones nobody is let in any more.
 */
async function readRevoked(reader: Reader, now: Date): Promise<NamedLeaves> {
  const since = new Date(now.getTime() - CRL_VALIDITY_MS);
  const marked = await listRevokedLeaves(reader, since, MOST_REVOKED + 1);
  const held = await listHeldLeaves(reader, now, MOST_REVOKED + 1);
  const all = [...marked, ...held];
  return { revoked: all.slice(0, MOST_REVOKED), isComplete: all.length <= MOST_REVOKED };
}

/** Two grounds with one key make the same lists, but for their times. */
export function keyOfGround({ signers, revoked }: CrlGround): string {
  const ids = signers.map(({ id }) => id).sort();
  return JSON.stringify([ids, revoked.map(({ serial, reason }) => `${serial} ${reason}`)]);
}

/**
 * Signs the lists, under a number that no lists had before. What is revoked is read again with it, so that
 * of two servers' lists the one with the higher number tells of more.
 */
export async function writeCrls(
  store: Datastore,
  { signers }: Pick<CrlGround, 'signers'>,
  now: Date,
): Promise<SignedCrl[]> {
  const { number, revoked } = await store.transaction(async (tx) => ({
    number: await nextNumber(tx, now),
    ...(await readRevoked(tx, now)),
  }));
  const thisUpdate = wholeSeconds(now);
  const nextUpdate = new Date(thisUpdate.getTime() + CRL_VALIDITY_MS);
  return Promise.all(
    signers.map(async (one) => {
      // Before leaves had their authority in the ledger, which of them it was is not known.
      const own = revoked.filter(({ authorityId }) => ['', one.id].includes(authorityId));
      const init = { number, thisUpdate, nextUpdate, issuer: certificateOf(one), revoked: own };
      const der = await signCrl(init, one.signer);
      return { authorityId: one.id, number, thisUpdate, nextUpdate, revoked: own.length, der };
    }),
  );
}

/** Never below the time, in seconds, so that numbers grow over the restoring of a backup too. */
async function nextNumber(tx: Transaction, now: Date): Promise<bigint> {
  const row = await tx.get('select value from meta where key = ?', NUMBER_KEY);
  const next = BigInt(String(row?.value ?? 0)) + 1n;
  const seconds = BigInt(Math.floor(now.getTime() / 1000));
  const number = next > seconds ? next : seconds;
  await tx.run(
    `insert into meta (key, value) values (?, ?)
     on conflict (key) do update set value = excluded.value`,
    NUMBER_KEY,
    String(number),
  );
  return number;
}

function certificateOf({ certificate }: CaSigner): Certificate {
  const known = CERTIFICATES.get(certificate);
  if (known !== undefined) return known;
  const parsed = parseCertificate(certificate);
  CERTIFICATES.set(certificate, parsed);
  return parsed;
}

const CERTIFICATES = new WeakMap<Uint8Array, Certificate>();

function wholeSeconds(at: Date): Date {
  return new Date(Math.floor(at.getTime() / 1000) * 1000);
}
