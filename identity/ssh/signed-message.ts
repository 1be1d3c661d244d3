/**
 * A signature over any bytes by an SSH key, which `ssh-keygen -Y check-novalidate` verifies too. What is
 * signed starts with a mark that no certificate and no login can start with.
 *
 * Source: OpenSSH, PROTOCOL.sshsig.
 */
import { createHash } from 'node:crypto';
import type { Signer } from '../signer.ts';
import { encodePublicKey, parsePublicKey } from './public-key.ts';
import { signSshBy, verifySsh } from './signature.ts';
import { SshReader, SshWriter, sshInvalid } from './wire.ts';

const MARK = Buffer.from('SSHSIG');
const VERSION = 1;

/** @param namespace keeps signatures for one purpose from serving another; the same on both sides */
export async function signMessage(
  signer: Signer,
  namespace: string,
  message: Uint8Array,
): Promise<Buffer> {
  const signature = await signSshBy(signer, signedBytes(namespace, message));
  return new SshWriter()
    .raw(MARK)
    .u32(VERSION)
    .string(encodePublicKey(signer.publicKey))
    .string(namespace)
    .string('')
    .string('sha512')
    .string(signature)
    .finish();
}

/**
 * The public key (RFC 4253 6.6) that signed the message: whether it is trusted is for the caller.
 * @param signed untrusted
 * @throws Fault SSH_INVALID
 */
export function signerOfMessage(
  namespace: string,
  message: Uint8Array,
  signed: Uint8Array,
): Uint8Array {
  const bytes = Buffer.from(signed);
  if (!bytes.subarray(0, MARK.length).equals(MARK)) throw sshInvalid('not a signed message');
  const reader = new SshReader(bytes.subarray(MARK.length), 'signed message');
  const version = reader.u32();
  const key = reader.string();
  const forNamespace = reader.text();
  reader.string();
  const hash = reader.text();
  const signature = reader.string();
  reader.end();
  const isRight = version === VERSION && forNamespace === namespace && hash === 'sha512';
  if (!isRight || !verifySsh(parsePublicKey(key), signedBytes(namespace, message), signature)) {
    throw sshInvalid('the signature does not fit the message');
  }
  return key;
}

function signedBytes(namespace: string, message: Uint8Array): Buffer {
  return new SshWriter()
    .raw(MARK)
    .string(namespace)
    .string('')
    .string('sha512')
    .string(createHash('sha512').update(message).digest())
    .finish();
}
