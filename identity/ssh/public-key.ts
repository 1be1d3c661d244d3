import { createHash, createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { detachedKey } from '../detached-key.ts';
import { isEd25519Point } from './ed25519-point.ts';
import { refuseControls } from './plain-text.ts';
import { SshReader, SshWriter, sshInvalid } from './wire.ts';

/** What a key can be. Not here, so refused: DSA, FIDO (`sk-`), Ed448. */
export type SshKeyType =
  | 'ssh-ed25519'
  | 'ecdsa-sha2-nistp256'
  | 'ecdsa-sha2-nistp384'
  | 'ecdsa-sha2-nistp521'
  | 'ssh-rsa';

/** What a certificate's type has after its key's. */
export const CERTIFICATE_SUFFIX = '-cert-v01@openssh.com';

/** No key and no certificate is longer. */
export const MAXIMUM_BLOB_BYTES = 65_536;

/** A curve of NIST's, as SSH, JWK and OpenSSL name it, and the hash that goes with it. */
export interface NistCurve {
  readonly type: SshKeyType;
  readonly name: string;
  readonly jwk: string;
  readonly openssl: string;
  /** Bytes of a coordinate. */
  readonly size: number;
  readonly hash: 'sha256' | 'sha384' | 'sha512';
}

/** Source: RFC 5656 6.2.1 and 10.1. */
const CURVES: readonly NistCurve[] = [
  {
    type: 'ecdsa-sha2-nistp256',
    name: 'nistp256',
    jwk: 'P-256',
    openssl: 'prime256v1',
    size: 32,
    hash: 'sha256',
  },
  {
    type: 'ecdsa-sha2-nistp384',
    name: 'nistp384',
    jwk: 'P-384',
    openssl: 'secp384r1',
    size: 48,
    hash: 'sha384',
  },
  {
    type: 'ecdsa-sha2-nistp521',
    name: 'nistp521',
    jwk: 'P-521',
    openssl: 'secp521r1',
    size: 66,
    hash: 'sha512',
  },
];

const TYPES: ReadonlyMap<string, SshKeyType> = new Map(
  (['ssh-ed25519', 'ssh-rsa', ...CURVES.map(({ type }) => type)] as const).map((type) => [
    type,
    type,
  ]),
);

const RSA_BITS = { least: 2048, most: 8192 } as const;

/**
 * @param key public or private
 * @throws Fault SSH_INVALID if SSH has no such key, or none that we take
 */
export function sshKeyType(key: KeyObject): SshKeyType {
  return typeOfDetached(key.asymmetricKeyType === 'ec' ? detachedPublicKey(key) : key);
}

function typeOfDetached(key: KeyObject): SshKeyType {
  switch (key.asymmetricKeyType) {
    case 'ed25519':
      return 'ssh-ed25519';
    case 'rsa':
      return 'ssh-rsa';
    case 'ec': {
      const { namedCurve } = key.asymmetricKeyDetails ?? {};
      const curve = CURVES.find(({ openssl }) => openssl === namedCurve);
      if (curve !== undefined) return curve.type;
    }
  }
  throw sshInvalid('SSH key: write Ed25519, ECDSA on P-256, P-384 or P-521, or RSA');
}

function detachedPublicKey(key: KeyObject): KeyObject {
  return detachedKey(key.type === 'private' ? createPublicKey(key) : key);
}

/** The curve of an ECDSA key's type; undefined for the other types. */
export function nistCurve(type: SshKeyType): NistCurve | undefined {
  return CURVES.find((curve) => curve.type === type);
}

/** The key type of that name; undefined if we take none such. */
export function knownKeyType(name: string): SshKeyType | undefined {
  return TYPES.get(name);
}

/**
 * A public key as SSH writes it: its type and numbers.
 * @param key public or private
 * @throws Fault SSH_INVALID if parsePublicKey would not take it
 */
export function encodePublicKey(key: KeyObject): Buffer {
  const publicKey = detachedPublicKey(key);
  const type = typeOfDetached(publicKey);
  const jwk = publicKey.export({ format: 'jwk' });
  const writer = new SshWriter().string(type);
  const curve = nistCurve(type);
  if (type === 'ssh-rsa') {
    const [exponent, modulus] = [bytesOf(jwk.e), bytesOf(jwk.n)];
    checkRsa(exponent, modulus);
    writer.mpint(exponent).mpint(modulus);
  } else if (curve === undefined) {
    writer.string(checkedPoint(bytesOf(jwk.x)));
  } else {
    const point = Buffer.concat([Buffer.of(4), bytesOf(jwk.x), bytesOf(jwk.y)]);
    writer.string(curve.name).string(point);
  }
  return writer.finish();
}

/**
 * The key of a blob, which encodePublicKey would write again byte for byte; never a certificate.
 * @param blob untrusted
 * @throws Fault SSH_INVALID
 */
export function parsePublicKey(blob: Uint8Array): KeyObject {
  boundBlob(blob);
  const reader = new SshReader(blob, 'SSH key');
  const name = reader.name();
  if (name.endsWith(CERTIFICATE_SUFFIX)) {
    throw sshInvalid('SSH key: a certificate where a plain key belongs');
  }
  const key = readKeyFields(reader, typeNamed(name));
  reader.end();
  return key;
}

/**
 * What stands after the type in a key's blob, and after the nonce in a certificate.
 * @throws Fault SSH_INVALID
 */
export function readKeyFields(reader: SshReader, type: SshKeyType): KeyObject {
  const curve = nistCurve(type);
  if (type === 'ssh-rsa') return readRsa(reader);
  return curve === undefined ? readEd25519(reader) : readEcdsa(reader, curve);
}

/** `SHA256:...`, as OpenSSH prints it. */
export function fingerprint(blob: Uint8Array): string {
  const digest = createHash('sha256').update(blob).digest('base64');
  return `SHA256:${digest.replace(/=+$/, '')}`;
}

/**
 * The line of a `.pub` file, without its end.
 * @param blob a key's or a certificate's
 * @throws Fault SSH_INVALID
 */
export function publicKeyLine(blob: Uint8Array, comment = ''): string {
  const name = blobType(blob);
  typeNamed(withoutSuffix(name));
  refuseControls(comment, 'comment of an SSH key');
  const line = `${name} ${Buffer.from(blob).toString('base64')}`;
  return comment === '' ? line : `${line} ${comment}`;
}

/**
 * The blob of a `.pub` file's line: `type base64 [comment]`.
 * @param line untrusted
 * @throws Fault SSH_INVALID, for a certificate too: parseCertificateLine reads those
 */
export function parsePublicKeyLine(line: string): Buffer {
  const blob = blobOfLine(line);
  parsePublicKey(blob);
  return blob;
}

/**
 * The blob of a line, whose type is that which the line says; the rest of it is not looked at.
 * @throws Fault SSH_INVALID
 */
export function blobOfLine(line: string): Buffer {
  if (line.length > 2 * MAXIMUM_BLOB_BYTES) throw sshInvalid('SSH key: line too long');
  const text = line.trim();
  const [name, base64] = text.split(/[ \t]+/);
  if (name === undefined || base64 === undefined || /[\r\n]/.test(text)) {
    throw sshInvalid('SSH key: write one line: type, base64, comment');
  }
  const blob = Buffer.from(base64, 'base64');
  if (blob.toString('base64') !== base64) throw sshInvalid('SSH key: malformed base64');
  if (blobType(blob) !== name) throw sshInvalid('SSH key: the line says another type than the key');
  return blob;
}

/**
 * The type a blob says it is of; it may be of any form else.
 * @throws Fault SSH_INVALID
 */
export function blobType(blob: Uint8Array): string {
  boundBlob(blob);
  return new SshReader(blob, 'SSH key').name();
}

/** A certificate's type, or algorithm, without what says so; any other is left as it is. */
export function withoutSuffix(name: string): string {
  return name.endsWith(CERTIFICATE_SUFFIX) ? name.slice(0, -CERTIFICATE_SUFFIX.length) : name;
}

function typeNamed(name: string): SshKeyType {
  const type = TYPES.get(name);
  if (type === undefined) throw sshInvalid('SSH key: type not allowed');
  return type;
}

function boundBlob(blob: Uint8Array): void {
  if (blob.length > MAXIMUM_BLOB_BYTES) {
    throw sshInvalid(`SSH key: longer than ${MAXIMUM_BLOB_BYTES} bytes`);
  }
}

/** Source: RFC 8709 4. */
function readEd25519(reader: SshReader): KeyObject {
  const point = checkedPoint(reader.string(32));
  return fromJwk({ kty: 'OKP', crv: 'Ed25519', x: point.toString('base64url') });
}

function checkedPoint(bytes: Buffer): Buffer {
  if (!isEd25519Point(bytes)) throw sshInvalid('SSH key: no point of Ed25519');
  return bytes;
}

/** Source: RFC 5656 3.1. */
function readEcdsa(reader: SshReader, { name, jwk, size }: NistCurve): KeyObject {
  if (reader.name() !== name) throw sshInvalid('SSH key: curve other than the type says');
  const point = reader.string(1 + 2 * size);
  if (point.length !== 1 + 2 * size || point[0] !== 4) {
    throw sshInvalid('SSH key: point not uncompressed, or not of the curve');
  }
  const x = point.toString('base64url', 1, 1 + size);
  return fromJwk({ kty: 'EC', crv: jwk, x, y: point.toString('base64url', 1 + size) });
}

/** Source: RFC 4253 6.6. */
function readRsa(reader: SshReader): KeyObject {
  const exponent = reader.mpint(4);
  const modulus = reader.mpint(RSA_BITS.most / 8);
  checkRsa(exponent, modulus);
  const [e, n] = [exponent.toString('base64url'), modulus.toString('base64url')];
  return fromJwk({ kty: 'RSA', e, n });
}

function checkRsa(exponent: Buffer, modulus: Buffer): void {
  const bits = modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24;
  if (bits < RSA_BITS.least || bits > RSA_BITS.most) {
    throw sshInvalid(`SSH key: RSA of ${RSA_BITS.least} to ${RSA_BITS.most} bits only`);
  }
  if (((modulus.at(-1) ?? 0) & 1) === 0) throw sshInvalid('SSH key: RSA modulus even');
  // A large exponent makes each verification as dear as a signature; a tiny one is weak.
  const value =
    exponent.length >= 1 && exponent.length <= 4 ? exponent.readUIntBE(0, exponent.length) : 0;
  if (value < 65_537 || value % 2 === 0) throw sshInvalid('SSH key: RSA exponent not allowed');
}

function fromJwk(key: JsonWebKey): KeyObject {
  try {
    return createPublicKey({ key, format: 'jwk' });
  } catch (error) {
    throw sshInvalid('SSH key: no point of its curve', error);
  }
}

function bytesOf(base64url: string | undefined): Buffer {
  if (base64url === undefined) throw new Error('a key without one of its numbers');
  return Buffer.from(base64url, 'base64url');
}
