/**
 * The hot path of issuing: a leaf is put together from DER parts, of which all but serial, validity,
 * key and names are made once for each authority. A general certificate builder costs 12 to 25 times
 * the CPU of this one.
 */
import { type KeyObject, randomBytes } from 'node:crypto';
import { isIP } from 'node:net';
import { Fault } from '../../runtime/fault.ts';
import { localSigner, type Signer, whenHere } from '../signer.ts';
import type { SpiffeId } from '../spiffe-id.ts';
import { type Certificate, parseCertificate, publicKeyOf } from './certificate.ts';
import { der, derHeader, derOctetBits, derOid, derTime, TAG } from './der.ts';
import { derAltNames, derExtension, OID } from './extensions.ts';
import { subjectKeyIdOf } from './key.ts';
import { algorithmFor, type SignatureAlgorithm } from './signature.ts';
import { derName, relativeName, type SubjectName } from './subject-name.ts';

/** What a leaf is to say. */
export interface LeafRequest {
  /** DER, as `parseCsr` or `spkiOf` gives it: its key has been checked. */
  readonly spki: Uint8Array;
  readonly uri: SpiffeId;
  /** The first is the subject's common name too, if it has at most 64 characters. */
  readonly dnsNames: readonly string[];
  /** In the place of C=US, O=SPIRE. */
  readonly subject?: SubjectName | undefined;
  readonly ipAddresses?: readonly string[];
  /** Cut to the authority's own end, and to whole seconds. */
  readonly notAfter: Date;
  readonly now: Date;
}

export interface SignedLeaf {
  readonly der: Uint8Array;
  /** Lower-case hex of 16 random bytes. */
  readonly serial: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** Signs leaves in the name of one authority; one whose key is here answers at once. */
export interface LeafSigner<Result extends SignedLeaf | Promise<SignedLeaf> = SignedLeaf> {
  /**
   * @throws Fault INVALID_ARGUMENT: a DNS name or address that no certificate can carry
   * @throws Fault FAILED_PRECONDITION: the leaf, or the authority, would have ended already
   */
  sign(request: LeafRequest): Result;
}

const BACKDATED_MS = 10_000;
const LONGEST_COMMON_NAME = 64;
const LONGEST_DNS_NAME = 253;
const DNS_NAME =
  /^(?:\*\.)?(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*$/;

const VERSION_3 = Buffer.from('a003020102', 'hex');

/** C=US, O=SPIRE: what verifiers of SPIRE's leaves have met so far. */
const SUBJECT = [
  relativeName('2.5.4.6', der(TAG.printableString, Buffer.from('US'))),
  relativeName('2.5.4.10', der(TAG.printableString, Buffer.from('SPIRE'))),
];

const SUBJECT_WITHOUT_NAME = der(TAG.sequence, ...SUBJECT);

/** digitalSignature, keyEncipherment, keyAgreement; server and client; no CA. */
const PROFILE = Buffer.concat([
  derExtension(OID.keyUsage, true, der(TAG.bitString, Buffer.of(3, 0b1010_1000))),
  derExtension(
    OID.extKeyUsage,
    false,
    der(TAG.sequence, derOid(OID.serverAuth), derOid(OID.clientAuth)),
  ),
  derExtension(OID.basicConstraints, true, der(TAG.sequence)),
]);

/** Whether a certificate may carry the name: labels of letters, digits, `-` and `_`, or `*.` first. */
export function isDnsName(name: string): boolean {
  return name.length <= LONGEST_DNS_NAME && DNS_NAME.test(name);
}

/** @param authority its certificate (DER) and the key that belongs to it */
export function leafSigner(authority: {
  readonly certificate: Uint8Array;
  readonly privateKey: KeyObject;
}): LeafSigner {
  const signer = localSigner(authority.privateKey);
  const parts = signerParts(authority.certificate, signer);
  return {
    sign: (request) => {
      const leaf = leafBody(parts, request);
      return finished(parts, leaf, signer.sign(leaf.tbs, parts.algorithm));
    },
  };
}

/** As `leafSigner`, for a key that may be elsewhere. */
export function remoteLeafSigner(authority: {
  readonly certificate: Uint8Array;
  readonly signer: Signer;
}): LeafSigner<SignedLeaf | Promise<SignedLeaf>> {
  const { signer } = authority;
  const parts = signerParts(authority.certificate, signer);
  return {
    sign: (request) => {
      const leaf = leafBody(parts, request);
      return whenHere(signer.sign(leaf.tbs, parts.algorithm), (signature) =>
        finished(parts, leaf, signature),
      );
    },
  };
}

interface SignerParts {
  readonly certificate: Certificate;
  readonly algorithm: SignatureAlgorithm;
  /** From the algorithm to the issuer's name. */
  readonly middle: Uint8Array;
  /** Extensions that are the same in all leaves. */
  readonly fixed: Uint8Array;
}

function signerParts(bytes: Uint8Array, { publicKey }: Signer): SignerParts {
  const certificate = parseCertificate(bytes);
  if (!publicKey.equals(publicKeyOf(certificate))) {
    throw new Error('the key is not that of the authority');
  }
  const keyId = certificate.subjectKeyId ?? subjectKeyIdOf(certificate.spki);
  const fixed = Buffer.concat([
    PROFILE,
    derExtension(OID.authorityKeyId, false, der(TAG.sequence, der(0x80, keyId))),
  ]);
  const algorithm = algorithmFor(publicKey);
  const middle = Buffer.concat([algorithm.identifier, certificate.subject]);
  return { certificate, algorithm, middle, fixed };
}

interface LeafBody {
  /** What is signed. */
  readonly tbs: Uint8Array;
  readonly serial: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

function leafBody({ certificate, middle, fixed }: SignerParts, request: LeafRequest): LeafBody {
  const { notBefore, notAfter } = validity(certificate, request);
  const serial = newSerial();
  const own = ownExtensions(request);
  const length = fixed.length + own.length;
  const list = derHeader(TAG.sequence, length);
  const tbs = der(
    TAG.sequence,
    VERSION_3,
    SERIAL_HEAD,
    serial,
    middle,
    derValidity(notBefore, notAfter),
    subject(request),
    request.spki,
    derHeader(0xa3, list.length + length),
    list,
    fixed,
    own,
  );
  return { tbs, serial: serial.toString('hex'), notBefore, notAfter };
}

interface KnownValidity {
  readonly from: number;
  readonly to: number;
  readonly der: Uint8Array;
}

/** Leaves of one second mostly end in one second too. */
let lastValidity: KnownValidity = { from: Number.NaN, to: Number.NaN, der: new Uint8Array() };

function derValidity(notBefore: Date, notAfter: Date): Uint8Array {
  const [from, to] = [notBefore.getTime(), notAfter.getTime()];
  if (lastValidity.from !== from || lastValidity.to !== to)
    lastValidity = { from, to, der: der(TAG.sequence, derTime(notBefore), derTime(notAfter)) };
  return lastValidity.der;
}

function finished(
  { algorithm }: SignerParts,
  { tbs, ...leaf }: LeafBody,
  signature: Uint8Array,
): SignedLeaf {
  const whole = der(TAG.sequence, tbs, algorithm.identifier, derOctetBits(signature));
  return { der: whole, ...leaf };
}

const SERIAL_BYTES = 16;
const SERIAL_HEAD = derHeader(TAG.integer, SERIAL_BYTES);

/** The extension up to the 20 bytes of the id. */
const KEY_ID_HEAD = derExtension(
  OID.subjectKeyId,
  false,
  der(TAG.octetString, Buffer.alloc(20)),
).subarray(0, -20);
/** Asking for random bytes costs more than the bytes: enough for many serials, each used once. */
const SERIALS_AT_ONCE = 256;
let serials = Buffer.alloc(0);

/** 16 random bytes; the first is 0x40 to 0x7f, so that the INTEGER is positive and never shorter. */
export function newSerial(): Buffer {
  if (serials.length === 0) serials = randomBytes(SERIAL_BYTES * SERIALS_AT_ONCE);
  const serial = Buffer.from(serials.subarray(0, SERIAL_BYTES));
  serials = serials.subarray(SERIAL_BYTES);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return serial;
}

function validity(authority: Certificate, request: LeafRequest) {
  const now = request.now.getTime();
  const end = Math.min(request.notAfter.getTime(), authority.notAfter.getTime());
  if (!(end > now)) {
    throw new Fault('FAILED_PRECONDITION', 'the certificate would have ended already');
  }
  return { notBefore: wholeSeconds(now - BACKDATED_MS), notAfter: wholeSeconds(end) };
}

function wholeSeconds(milliseconds: number): Date {
  return new Date(Math.floor(milliseconds / 1000) * 1000);
}

function subject({ dnsNames: [first], subject: wanted }: LeafRequest): Buffer {
  const commonName =
    first !== undefined && first.length <= LONGEST_COMMON_NAME ? first : wanted?.commonNames[0];
  if (wanted === undefined && commonName === undefined) return SUBJECT_WITHOUT_NAME;
  return derName(wanted?.parts ?? SUBJECT, commonName);
}

function ownExtensions({ spki, uri, dnsNames, ipAddresses = [] }: LeafRequest): Buffer {
  const wrong =
    dnsNames.find((name) => !isDnsName(name)) ??
    ipAddresses.find((address) => isIP(address) === 0 || address.includes('%'));
  if (wrong !== undefined) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `${JSON.stringify(wrong)} is no name a certificate can carry`,
    );
  }
  const names = derAltNames({ uris: [uri.toString()], dnsNames, ipAddresses });
  const altNames = derExtension(OID.subjectAltName, false, names);
  return Buffer.concat([KEY_ID_HEAD, subjectKeyIdOf(spki), altNames]);
}
