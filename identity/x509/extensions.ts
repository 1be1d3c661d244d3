import { isIPv4, isIPv6, SocketAddress } from 'node:net';
import {
  type Der,
  DerError,
  DerReader,
  der,
  derOid,
  readAscii,
  readNamedBits,
  readOid,
  readSmallInteger,
  readTrue,
  TAG,
} from './der.ts';

/** Extensions of RFC 5280 that we act on, and the extended key usages of an SVID. */
export const OID = {
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  authorityKeyId: '2.5.29.35',
  extKeyUsage: '2.5.29.37',
  anyExtKeyUsage: '2.5.29.37.0',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

/** One extension as it stands in a certificate or CSR. */
export interface Extension {
  readonly oid: string;
  readonly critical: boolean;
  /** What its OCTET STRING holds. */
  readonly value: Uint8Array;
}

/** Bits of KeyUsage by their number. Source: RFC 5280 4.2.1.3. */
const KEY_USAGES = [
  'digitalSignature',
  'contentCommitment',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
] as const;

/** The name of one KeyUsage bit. */
export type KeyUsage = (typeof KEY_USAGES)[number];

/** Names of a SubjectAltName that we act on; others may stand beside them. */
export interface AltNames {
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
}

const MOST_EXTENSIONS = 64;

/**
 * The content of an `Extensions` SEQUENCE. One that comes twice is refused: which of them counts?
 * @throws DerError
 */
export function readExtensions(reader: DerReader): Extension[] {
  const seen = new Map<string, Extension>();
  while (!reader.done) {
    const parts = reader.sequence();
    const oid = readOid(parts.take(TAG.oid));
    const flag = parts.optional(TAG.boolean);
    const critical = flag === undefined ? false : readTrue(flag);
    const value = parts.take(TAG.octetString).content;
    parts.end();
    if (seen.has(oid)) throw new DerError('extension repeated');
    if (seen.size === MOST_EXTENSIONS) throw new DerError('too many extensions');
    seen.set(oid, { oid, critical, value });
  }
  if (seen.size === 0) throw new DerError('empty list of extensions');
  return [...seen.values()];
}

/** Tags of the GeneralName forms that we do not act on but that may stand in a SubjectAltName. */
const OTHER_NAMES: ReadonlySet<number> = new Set([0xa0, 0x81, 0xa3, 0xa4, 0xa5, 0x88]);

export function readAltNames(value: Uint8Array): AltNames {
  const reader = DerReader.inside(DerReader.only(value, TAG.sequence));
  const uris: string[] = [];
  const dnsNames: string[] = [];
  const ipAddresses: string[] = [];
  do {
    const name = reader.any();
    if (name.tag === 0x86) uris.push(readAscii(name));
    else if (name.tag === 0x82) dnsNames.push(readAscii(name));
    else if (name.tag === 0x87) ipAddresses.push(readIpAddress(name));
    else if (!OTHER_NAMES.has(name.tag)) throw new DerError('unknown form of name');
  } while (!reader.done);
  return { uris, dnsNames, ipAddresses };
}

export function readKeyUsage(value: Uint8Array): ReadonlySet<KeyUsage> {
  const bits = readNamedBits(DerReader.only(value, TAG.bitString));
  return new Set(KEY_USAGES.filter((_, bit) => bits.has(bit)));
}

/** OIDs of the purposes. */
export function readExtKeyUsage(value: Uint8Array): readonly string[] {
  const reader = DerReader.inside(DerReader.only(value, TAG.sequence));
  const purposes: string[] = [];
  do purposes.push(readOid(reader.take(TAG.oid)));
  while (!reader.done);
  return purposes;
}

export interface BasicConstraints {
  readonly ca: boolean;
  readonly pathLength: number | undefined;
}

export function readBasicConstraints(value: Uint8Array): BasicConstraints {
  const reader = DerReader.inside(DerReader.only(value, TAG.sequence));
  const flag = reader.optional(TAG.boolean);
  const ca = flag === undefined ? false : readTrue(flag);
  const length = reader.optional(TAG.integer);
  reader.end();
  if (length !== undefined && !ca) throw new DerError('path length without CA');
  return { ca, pathLength: length === undefined ? undefined : readSmallInteger(length) };
}

export function readSubjectKeyId(value: Uint8Array): Uint8Array {
  return DerReader.only(value, TAG.octetString).content;
}

/** The keyIdentifier; undefined if the extension names its authority in another way only. */
export function readAuthorityKeyId(value: Uint8Array): Uint8Array | undefined {
  const reader = DerReader.inside(DerReader.only(value, TAG.sequence));
  const keyId = reader.optional(0x80);
  const issuer = reader.optional(0xa1);
  const serial = reader.optional(0x82);
  reader.end();
  if ((issuer === undefined) !== (serial === undefined)) throw new DerError('half an issuer');
  return keyId?.content;
}

/** One extension, from the DER of its value. */
export function derExtension(oid: string, critical: boolean, value: Uint8Array): Buffer {
  const flag = critical ? der(TAG.boolean, Buffer.of(0xff)) : Buffer.alloc(0);
  return der(TAG.sequence, oidOf(oid), flag, der(TAG.octetString, value));
}

const OIDS = new Map<string, Buffer>();

/** Those that a program writes are few. */
function oidOf(oid: string): Buffer {
  const known = OIDS.get(oid);
  if (known !== undefined) return known;
  const bytes = derOid(oid);
  OIDS.set(oid, bytes);
  return bytes;
}

/** The value of a SubjectAltName; names are ASCII, addresses as `net.isIP` reads them. */
export function derAltNames(names: AltNames): Buffer {
  return der(
    TAG.sequence,
    ...names.uris.map((name) => der(0x86, Buffer.from(name, 'latin1'))),
    ...names.dnsNames.map((name) => der(0x82, Buffer.from(name, 'latin1'))),
    ...names.ipAddresses.map((address) => der(0x87, ipBytes(address))),
  );
}

function ipBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  if (!isIPv6(address)) throw new Error(`no IP address: ${JSON.stringify(address)}`);
  // The URL parser writes the last 32 bits of an IPv4-mapped address in hex too.
  const canonical = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = '', tail] = canonical.split('::');
  const left = head.split(':').filter(Boolean);
  const right = (tail ?? '').split(':').filter(Boolean);
  const zeros = Array<string>(8 - left.length - right.length).fill('0');
  const groups = [...left, ...zeros, ...right].map((group) => Number.parseInt(group, 16));
  return Buffer.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
}

function readIpAddress({ content }: Der): string {
  if (content.length === 4) return [...content].join('.');
  if (content.length !== 16) throw new DerError('IP address of neither 4 nor 16 bytes');
  const groups = Array.from({ length: 8 }, (_, at) => content.readUInt16BE(at * 2).toString(16));
  return new SocketAddress({ family: 'ipv6', address: groups.join(':') }).address;
}
