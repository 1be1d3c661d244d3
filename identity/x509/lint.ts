/**
 * The last look at a certificate before it is recorded and given out: what was signed is read back and
 * held to the rules of an X509-SVID and to what was asked for. A certificate that breaks one is a bug of
 * ours, so nothing of it leaves. Whether the signature verifies is not looked at.
 *
 * Source: X509-SVID 2, 3 and 4, RFC 5280 4.1 and 4.2; stricter where we issue in one form only.
 */
import { isIPv6, SocketAddress } from 'node:net';
import type { SpiffeId, TrustDomain } from '../spiffe-id.ts';
import { type Certificate, isCritical, parseCertificate, publicKeyOf } from './certificate.ts';
import { DerReader, TAG } from './der.ts';
import { type KeyUsage, OID } from './extensions.ts';
import { subjectKeyIdOf } from './key.ts';
import { algorithmFor } from './signature.ts';

/** What every certificate has to say. */
interface Expected {
  readonly issuer: Certificate;
  /** DER. */
  readonly spki: Uint8Array;
  /** The last moment that it may be good. */
  readonly notAfter: Date;
  readonly now: Date;
}

export interface ExpectedLeaf extends Expected {
  readonly id: SpiffeId;
  readonly dnsNames: readonly string[];
  /** In any spelling. */
  readonly ipAddresses: readonly string[];
}

export interface ExpectedCa extends Expected {
  readonly trustDomain: TrustDomain;
}

/** The name of a rule, and whether it is broken. */
type Rule<E> = readonly [
  name: string,
  isBroken: (certificate: Certificate, expected: E) => boolean,
];

const SERIAL_DIGITS = 32;
const EMPTY_NAME = Buffer.of(0x30, 0);
const LEAF_USAGE: readonly KeyUsage[] = ['digitalSignature', 'keyEncipherment', 'keyAgreement'];
const CA_USAGE: readonly KeyUsage[] = ['keyCertSign', 'cRLSign'];
const LEAF_EXTENSIONS: ReadonlySet<string> = new Set([
  ...[OID.keyUsage, OID.extKeyUsage, OID.basicConstraints],
  ...[OID.subjectKeyId, OID.authorityKeyId, OID.subjectAltName],
]);
const CA_EXTENSIONS: ReadonlySet<string> = new Set(
  [...LEAF_EXTENSIONS].filter((oid) => oid !== OID.extKeyUsage),
);

const COMMON: readonly Rule<Expected>[] = [
  ['serial number of 16 bytes', ({ serial }) => serial.length !== SERIAL_DIGITS],
  [
    'signature algorithm of the authority',
    ({ signatureAlgorithm: used }, { issuer }) => used !== algorithmFor(publicKeyOf(issuer)),
  ],
  ['issuer name of the authority', (one, { issuer }) => !same(one.issuer, issuer.subject)],
  ['key as asked for', (one, { spki }) => !same(one.spki, spki)],
  ['good from now on', (one, { now }) => one.notBefore > now || one.notAfter <= now],
  ['end as asked for', (one, { notAfter }) => one.notAfter > notAfter],
  ['end before that of the authority', (one, { issuer }) => one.notAfter > issuer.notAfter],
  ['critical basic constraints', (one) => !isCritical(one, OID.basicConstraints)],
  ['critical key usage', (one) => !isCritical(one, OID.keyUsage)],
  [
    'subject key id of the key',
    ({ subjectKeyId: keyId, spki }) => keyId === undefined || !same(keyId, subjectKeyIdOf(spki)),
  ],
  [
    'authority key id of the authority',
    ({ authorityKeyId: keyId }, { issuer }) => keyId === undefined || !same(keyId, keyIdOf(issuer)),
  ],
  ['exactly one URI name', ({ uriSans }) => uriSans.length !== 1],
  ['no name of another kind', hasOtherNames],
];

const LEAF: readonly Rule<ExpectedLeaf>[] = [
  ...COMMON,
  ['SPIFFE ID as asked for', ({ uriSans }, { id }) => uriSans[0] !== id.toString()],
  ['SPIFFE ID with a path', (_, { id }) => id.path === ''],
  ['DNS names as asked for', ({ dnsSans }, { dnsNames }) => !sameList(dnsSans, dnsNames)],
  [
    'IP addresses as asked for',
    ({ ipSans }, { ipAddresses }) => !sameList(ipSans, ipAddresses.map(spelled)),
  ],
  [
    'critical names without a subject',
    (one) => same(one.subject, EMPTY_NAME) && !isCritical(one, OID.subjectAltName),
  ],
  ['no CA', ({ basicConstraints }) => basicConstraints?.ca !== false],
  ['key usage of a leaf', ({ keyUsage }) => !isExactly(keyUsage, LEAF_USAGE)],
  [
    'server and client purpose',
    ({ extKeyUsage }) => !isExactly(extKeyUsage && new Set(extKeyUsage), PURPOSES),
  ],
  ['extensions of a leaf', ({ extensions }) => hasOther(extensions, LEAF_EXTENSIONS)],
];

const CA: readonly Rule<ExpectedCa>[] = [
  ...COMMON,
  [
    'SPIFFE ID of the trust domain',
    ({ uriSans }, { trustDomain }) => uriSans[0] !== `spiffe://${trustDomain}`,
  ],
  ['no DNS name and no IP address', ({ dnsSans, ipSans }) => dnsSans.length + ipSans.length > 0],
  ['a subject', ({ subject }) => same(subject, EMPTY_NAME)],
  ['CA', ({ basicConstraints }) => basicConstraints?.ca !== true],
  ['key usage of an authority', ({ keyUsage }) => !isExactly(keyUsage, CA_USAGE)],
  ['extensions of an authority', ({ extensions }) => hasOther(extensions, CA_EXTENSIONS)],
];

const PURPOSES: readonly string[] = [OID.serverAuth, OID.clientAuth];

/** @throws Error that names the rule which the leaf (DER) breaks */
export function lintLeaf(der: Uint8Array, expected: ExpectedLeaf): void {
  lint(der, expected, LEAF);
}

/** The same for an authority below ours. */
export function lintCa(der: Uint8Array, expected: ExpectedCa): void {
  lint(der, expected, CA);
}

function lint<E>(der: Uint8Array, expected: E, rules: readonly Rule<E>[]): void {
  const certificate = parsed(der);
  for (const [name, isBroken] of rules)
    if (isBroken(certificate, expected))
      throw new Error(`a certificate was made that breaks a rule: ${name}`);
}

function parsed(der: Uint8Array): Certificate {
  try {
    return parseCertificate(der);
  } catch (cause) {
    throw new Error('a certificate was made that cannot be read', { cause });
  }
}

function keyIdOf({ subjectKeyId, spki }: Certificate): Uint8Array {
  return subjectKeyId ?? subjectKeyIdOf(spki);
}

/** Names that `readAltNames` passes over. */
function hasOtherNames({ extensions, uriSans, dnsSans, ipSans }: Certificate): boolean {
  const names = extensions.find(({ oid }) => oid === OID.subjectAltName);
  if (names === undefined) return true;
  const reader = DerReader.inside(DerReader.only(names.value, TAG.sequence));
  let count = 0;
  for (; !reader.done; count += 1) reader.any();
  return count !== uriSans.length + dnsSans.length + ipSans.length;
}

/** The one spelling that a certificate's addresses are read in. */
function spelled(address: string): string {
  return isIPv6(address) ? new SocketAddress({ family: 'ipv6', address }).address : address;
}

function hasOther(extensions: Certificate['extensions'], known: ReadonlySet<string>): boolean {
  return extensions.some(({ oid }) => !known.has(oid));
}

function isExactly<T>(found: ReadonlySet<T> | undefined, wanted: readonly T[]): boolean {
  return found?.size === wanted.length && wanted.every((one) => found.has(one));
}

function sameList(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((name, at) => name === other[at]);
}

function same(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}
