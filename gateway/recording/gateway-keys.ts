/**
 * The two secrets that a gateway makes for itself and keeps for good, since SVID keys rotate: the key
 * that signs its recordings, so that a record verifies next year, and the key of the HMACs in them
 * (threats S9), so that equal values can be told equal by who holds it.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomic } from '../../runtime/atomic-file.ts';
import { Fault } from '../../runtime/fault.ts';

export interface GatewayKeys {
  readonly recording: RecordingKey;
  /** 32 bytes. */
  readonly hmacKey: Uint8Array;
}

export interface RecordingKey {
  readonly privateKey: KeyObject;
  /** The raw Ed25519 public key, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** SHA-256 of `publicKey`. */
  readonly keyId: Uint8Array;
}

const HMAC_KEY_BYTES = 32;
const OTHERS = 0o077;

/**
 * Reads both keys from `stateDir`, or makes them there, 0600.
 * @throws Fault STATE_UNUSABLE if a file is no such key, or others may read it
 */
export async function loadGatewayKeys(stateDir: string): Promise<GatewayKeys> {
  const pem = await secretFile(join(stateDir, 'recording-key.pem'), () =>
    Buffer.from(newPrivateKey().export({ type: 'pkcs8', format: 'pem' })),
  );
  const hmacKey = await secretFile(join(stateDir, 'hmac-key'), () => randomBytes(HMAC_KEY_BYTES));
  if (hmacKey.length !== HMAC_KEY_BYTES) {
    throw new Fault('STATE_UNUSABLE', `${stateDir}/hmac-key is not ${HMAC_KEY_BYTES} bytes long`);
  }
  return { recording: recordingKey(parsePrivateKey(pem, stateDir)), hmacKey };
}

/** The public half and its name, from the private key. */
export function recordingKey(privateKey: KeyObject): RecordingKey {
  const { x } = createPublicKey(privateKey).export({ format: 'jwk' });
  const publicKey = Buffer.from(x ?? '', 'base64url');
  return { privateKey, publicKey, keyId: createHash('sha256').update(publicKey).digest() };
}

async function secretFile(path: string, make: () => Buffer): Promise<Buffer> {
  try {
    const { mode } = await stat(path);
    if ((mode & OTHERS) !== 0) {
      throw new Fault('STATE_UNUSABLE', `${path} may be read by others: chmod 600 it`);
    }
    return await readFile(path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
  const made = make();
  await writeAtomic(path, made, 0o600);
  return made;
}

function newPrivateKey(): KeyObject {
  return generateKeyPairSync('ed25519').privateKey;
}

function parsePrivateKey(pem: Buffer, stateDir: string): KeyObject {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType === 'ed25519') return key;
  } catch (error) {
    throw new Fault('STATE_UNUSABLE', `${stateDir}/recording-key.pem is no key`, { cause: error });
  }
  throw new Fault('STATE_UNUSABLE', `${stateDir}/recording-key.pem is no Ed25519 key`);
}
