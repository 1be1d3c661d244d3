import { type KeyObject, randomBytes } from 'node:crypto';
import { detachedKey } from '../detached-key.ts';
import { refuseControls } from './plain-text.ts';
import { encodePublicKey, sshKeyType } from './public-key.ts';
import { SshWriter } from './wire.ts';

const MAGIC = 'openssh-key-v1\0';
const BLOCK_BYTES = 8;
const LINE_CHARACTERS = 70;

/**
 * A private key as OpenSSH keeps it in files, not encrypted: who reads it holds the key.
 * @throws Fault SSH_INVALID if SSH has no such key
 *
 * Source: OpenSSH, PROTOCOL.key.
 */
export function opensshPrivateKey(key: KeyObject, comment = ''): string {
  refuseControls(comment, 'comment of an SSH key');
  const publicKey = encodePublicKey(key);
  const check = randomBytes(4);
  const secret = new SshWriter().raw(check).raw(check).raw(keyFields(key, publicKey));
  const file = new SshWriter()
    .raw(Buffer.from(MAGIC, 'latin1'))
    .string('none')
    .string('none')
    .string('')
    .u32(1)
    .string(publicKey)
    .string(padded(secret.string(comment).finish()))
    .finish();
  const lines = file.toString('base64').match(new RegExp(`.{1,${LINE_CHARACTERS}}`, 'g')) ?? [];
  return [
    '-----BEGIN OPENSSH PRIVATE KEY-----',
    ...lines,
    '-----END OPENSSH PRIVATE KEY-----',
    '',
  ].join('\n');
}

function keyFields(key: KeyObject, publicKey: Buffer): Buffer {
  const jwk = detachedKey(key).export({ format: 'jwk' });
  const type = sshKeyType(key);
  const secret = bytesOf(jwk.d);
  const writer = new SshWriter();
  if (type === 'ssh-rsa') {
    writer.string(type).mpint(bytesOf(jwk.n)).mpint(bytesOf(jwk.e)).mpint(secret);
    return writer.mpint(bytesOf(jwk.qi)).mpint(bytesOf(jwk.p)).mpint(bytesOf(jwk.q)).finish();
  }
  if (type !== 'ssh-ed25519') return writer.raw(publicKey).mpint(secret).finish();
  const point = bytesOf(jwk.x);
  return writer
    .raw(publicKey)
    .string(Buffer.concat([secret, point]))
    .finish();
}

function padded(bytes: Buffer): Buffer {
  const missing = (BLOCK_BYTES - (bytes.length % BLOCK_BYTES)) % BLOCK_BYTES;
  return Buffer.concat([bytes, Buffer.from(Array.from({ length: missing }, (_, i) => i + 1))]);
}

function bytesOf(base64url: string | undefined): Buffer {
  if (base64url === undefined) throw new Error('not a private key');
  return Buffer.from(base64url, 'base64url');
}
