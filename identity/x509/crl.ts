/**
 * Certificate revocation lists, version 2, complete and direct: each of one authority, of its own leaves.
 *
 * Source: RFC 5280 5. Stricter: both extensions that it demands must be there and no others, nextUpdate
 * must be there, serials must be ascending, and entries bear a reason and nothing else.
 */
import { setImmediate as breathe } from 'node:timers/promises';
import { Fault } from '../../runtime/fault.ts';
import type { Signer } from '../signer.ts';
import { type Certificate, publicKeyOf } from './certificate.ts';
import {
  boundedDer,
  type Der,
  DerError,
  DerReader,
  der,
  derInteger,
  derOctetBits,
  derTime,
  readOctetBits,
  readTime,
  readUnsigned,
  TAG,
} from './der.ts';
import {
  derExtension,
  type Extension,
  OID,
  readAuthorityKeyId,
  readExtensions,
} from './extensions.ts';
import {
  algorithmFor,
  isSignedBy,
  type SignatureAlgorithm,
  signatureAlgorithm,
} from './signature.ts';

/** Bounds a list that is read or written: a gRPC client takes 4 MiB. */
export const MAXIMUM_CRL_BYTES = 3 * 1024 * 1024;

/** CRLReason by its number; 7 has none, and 8 is for lists of changes. Source: RFC 5280 5.3.1. */
export const CRL_REASON = {
  unspecified: 0,
  keyCompromise: 1,
  caCompromise: 2,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  certificateHold: 6,
  privilegeWithdrawn: 9,
  aaCompromise: 10,
} as const;

export type CrlReason = (typeof CRL_REASON)[keyof typeof CRL_REASON];

export interface RevokedSerial {
  /** Lower-case hex, two digits a byte, as `Certificate.serial`. */
  readonly serial: string;
  readonly revokedAt: Date;
  readonly reason: CrlReason;
}

export interface CrlInit {
  /** The authority that signs it. */
  readonly issuer: Pick<Certificate, 'subject' | 'subjectKeyId'>;
  readonly number: bigint;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
  readonly revoked: readonly RevokedSerial[];
}

/** A list that was read, not verified: `isCrlOf` does that. */
export interface Crl extends Omit<CrlInit, 'issuer' | 'revoked'> {
  readonly raw: Uint8Array;
  /** DER of the issuer's name. */
  readonly issuer: Uint8Array;
  readonly authorityKeyId: Uint8Array;
  /** By serial. */
  readonly revoked: ReadonlyMap<string, RevokedSerial>;
  readonly tbs: Uint8Array;
  readonly signatureAlgorithm: SignatureAlgorithm | undefined;
  readonly signature: Uint8Array;
}

const CRL_NUMBER = '2.5.29.20';
const REASON_CODE = '2.5.29.21';
const VERSION_2 = Buffer.of(2, 1, 1);
const LONGEST_NUMBER = 20;

/**
 * A signed list, DER.
 * @throws DerError if it is longer than `MAXIMUM_CRL_BYTES`
 */
export async function signCrl(init: CrlInit, signer: Signer): Promise<Uint8Array> {
  const algorithm = algorithmFor(signer.publicKey);
  const tbs = tbsCertList(init, algorithm, await derEntries(init.revoked));
  const signature = await signer.sign(tbs, algorithm);
  return long(TAG.sequence, tbs, algorithm.identifier, derOctetBits(signature));
}

function tbsCertList(
  init: CrlInit,
  algorithm: SignatureAlgorithm,
  entries: readonly Buffer[],
): Buffer {
  const { issuer, number, thisUpdate, nextUpdate } = init;
  if (issuer.subjectKeyId === undefined) throw new Error('an authority without subject key id');
  const keyId = der(TAG.sequence, der(0x80, issuer.subjectKeyId));
  const extensions = der(
    TAG.sequence,
    derExtension(OID.authorityKeyId, false, keyId),
    derExtension(CRL_NUMBER, false, derInteger(bytesOf(number))),
  );
  return long(
    TAG.sequence,
    VERSION_2,
    algorithm.identifier,
    issuer.subject,
    derTime(thisUpdate),
    derTime(nextUpdate),
    // An empty list has no encoding.
    ...(entries.length === 0 ? [] : [long(TAG.sequence, ...entries)]),
    der(0xa0, extensions),
  );
}

/** A list may be of tens of thousands, so that others get their turn while it is made. */
async function derEntries(revoked: readonly RevokedSerial[]): Promise<Buffer[]> {
  const sorted = [...revoked].sort((a, b) => compareSerials(a.serial, b.serial));
  const entries: Buffer[] = [];
  for (const one of sorted) {
    if (entries.length % CHUNK === CHUNK - 1) await breathe();
    entries.push(derEntry(one));
  }
  return entries;
}

const CHUNK = 500;

function derEntry({ serial, revokedAt, reason }: RevokedSerial): Buffer {
  const number = derInteger(Buffer.from(serial, 'hex'));
  return der(TAG.sequence, number, derTime(revokedAt), REASON_DER.get(reason) ?? NOTHING);
}

const TAG_ENUMERATED = 0x0a;
const NOTHING = Buffer.of();
/** The extensions of an entry; RFC 5280 5.3.1 wants none that say `unspecified`. */
const REASON_DER: ReadonlyMap<CrlReason, Buffer> = new Map(
  Object.values(CRL_REASON)
    .filter((reason) => reason !== CRL_REASON.unspecified)
    .map((reason) => {
      const code = der(TAG_ENUMERATED, Buffer.of(reason));
      return [reason, der(TAG.sequence, derExtension(REASON_CODE, false, code))];
    }),
);
/** DER has one spelling for each. */
const REASON_BY_DER: ReadonlyMap<string, CrlReason> = new Map(
  [...REASON_DER].map(([reason, bytes]) => [bytes.toString('latin1'), reason]),
);

function long(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  return boundedDer(tag, parts, MAXIMUM_CRL_BYTES);
}

function bytesOf(number: bigint): Buffer {
  const hex = number.toString(16);
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
}

function compareSerials(a: string, b: string): number {
  if (a.length !== b.length) return a.length - b.length;
  return a < b ? -1 : Number(a > b);
}

/**
 * @param bytes DER, untrusted
 * @throws Fault INVALID_ARGUMENT: no strict DER, or not what this module writes
 */
export function parseCrl(bytes: Uint8Array): Crl {
  try {
    return readCrl(bytes);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    throw new Fault('INVALID_ARGUMENT', `revocation list malformed: ${error.message}`, {
      cause: error,
    });
  }
}

/**
 * Whether `authority` is the one that signed the list, and may. When it ends is not looked at.
 * Source: RFC 5280 6.3.3 (f, g).
 */
export function isCrlOf(crl: Crl, authority: Certificate): boolean {
  const { signatureAlgorithm: algorithm, tbs: signed, signature } = crl;
  const { subject, subjectKeyId, keyUsage } = authority;
  if (algorithm === undefined || subjectKeyId === undefined) return false;
  if (!same(crl.issuer, subject) || !same(crl.authorityKeyId, subjectKeyId)) return false;
  if (keyUsage?.has('cRLSign') !== true) return false;
  return isSignedBy(publicKeyOf(authority), { algorithm, signed, signature });
}

function readCrl(bytes: Uint8Array): Crl {
  const whole = DerReader.only(bytes, TAG.sequence, MAXIMUM_CRL_BYTES);
  const parts = DerReader.inside(whole, MAXIMUM_CRL_BYTES);
  const tbs = parts.take(TAG.sequence);
  const algorithm = parts.take(TAG.sequence).raw;
  const signature = readOctetBits(parts.take(TAG.bitString));
  parts.end();

  const fields = DerReader.inside(tbs, MAXIMUM_CRL_BYTES);
  if (!fields.take(TAG.integer).raw.equals(VERSION_2)) throw new DerError('not version 2');
  if (!fields.take(TAG.sequence).raw.equals(algorithm)) {
    throw new DerError('two signature algorithms');
  }
  const issuer = fields.take(TAG.sequence).raw;
  const thisUpdate = readTime(fields.any());
  const nextUpdate = readTime(fields.any());
  if (nextUpdate <= thisUpdate) throw new DerError('nextUpdate not after thisUpdate');
  const entries = fields.optional(TAG.sequence);
  const revoked = entries === undefined ? new Map<string, RevokedSerial>() : readEntries(entries);
  const list = DerReader.only(fields.take(0xa0).content, TAG.sequence);
  const known = readKnown(readExtensions(DerReader.inside(list)));
  fields.end();
  return {
    ...{ raw: whole.raw, tbs: tbs.raw, issuer, thisUpdate, nextUpdate, revoked, ...known },
    ...{ signatureAlgorithm: signatureAlgorithm(algorithm), signature },
  };
}

function readKnown(extensions: readonly Extension[]): Pick<Crl, 'authorityKeyId' | 'number'> {
  const extensionValue = (oid: string) =>
    extensions.find((extension) => extension.oid === oid)?.value;
  const keyId = extensionValue(OID.authorityKeyId);
  const number = extensionValue(CRL_NUMBER);
  if (keyId === undefined || number === undefined || extensions.length !== 2) {
    throw new DerError('extensions other than authority key identifier and CRL number');
  }
  if (extensions.some(({ critical }) => critical)) throw new DerError('critical extension');
  const authorityKeyId = readAuthorityKeyId(keyId);
  if (authorityKeyId === undefined) throw new DerError('no authority key identifier');
  const digits = readUnsigned(DerReader.only(number, TAG.integer));
  if (digits.length > LONGEST_NUMBER) throw new DerError('CRL number too large');
  return { authorityKeyId, number: BigInt(`0x${digits.toString('hex')}`) };
}

function readEntries(list: Der): Map<string, RevokedSerial> {
  const reader = DerReader.inside(list, MAXIMUM_CRL_BYTES);
  const revoked = new Map<string, RevokedSerial>();
  const times = new Map<string, Date>();
  let last = '';
  do {
    const entry = readEntry(reader.take(TAG.sequence), times);
    if (compareSerials(last, entry.serial) >= 0) throw new DerError('serials not ascending');
    last = entry.serial;
    revoked.set(entry.serial, entry);
  } while (!reader.done);
  return revoked;
}

/** @param times those of the entries before, which mostly come many together */
function readEntry(value: Der, times: Map<string, Date>): RevokedSerial {
  const parts = DerReader.inside(value);
  const serial = readUnsigned(parts.take(TAG.integer)).toString('hex');
  const time = parts.any();
  const spelled = time.raw.toString('latin1');
  const revokedAt = times.get(spelled) ?? readTime(time);
  times.set(spelled, revokedAt);
  const reason = parts.done ? CRL_REASON.unspecified : readReason(parts.any());
  parts.end();
  return { serial, revokedAt, reason };
}

function readReason({ raw }: Der): CrlReason {
  const reason = REASON_BY_DER.get(raw.toString('latin1'));
  if (reason === undefined) throw new DerError('entry with more than a known reason');
  return reason;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
