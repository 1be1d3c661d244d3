/** Node attestor `x509pop`: shows the node's certificate and proves that it has the key. */
import {
  constants,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto';
import { open } from 'node:fs/promises';
import * as v from 'valibot';
import {
  type Certificate,
  parseCertificate,
  publicKeyOf,
} from '../../../identity/x509/certificate.ts';
import { DerReader, readUnsigned, TAG } from '../../../identity/x509/der.ts';
import { decodePem } from '../../../identity/x509/pem.ts';
import { Fault } from '../../../runtime/fault.ts';
import type { NodeAttestor } from './node-attestor.ts';

const NONCE_BYTES = 32;
const MAXIMUM_FILE_BYTES = 256 * 1024;
const MOST_CERTIFICATES = 5;

export interface X509PopNodeOptions {
  readonly certificateFile: string;
  readonly privateKeyFile: string;
}

const asked = v.nullish(v.object({ nonce: v.pipe(v.string(), v.base64(), v.maxLength(1024)) }));
const challengeSchema = v.object({ rsa_signature: asked, ecdsa_signature: asked });

/** The files are read at each attestation, so that a renewed certificate needs no restart. */
export function x509PopNodeAttestor(options: X509PopNodeOptions): NodeAttestor {
  let key: KeyObject | undefined;
  return {
    type: 'x509pop',
    canReattest: true,

    async evidence() {
      const chain = await readChain(options.certificateFile);
      key = await readKey(options.privateKeyFile);
      const [leaf] = chain;
      if (leaf === undefined || !createPublicKey(key).equals(publicKeyOf(leaf)))
        throw invalid(`${options.privateKeyFile} is not the key of ${options.certificateFile}`);
      const certificates = chain.map(({ raw }) => Buffer.from(raw).toString('base64'));
      return Buffer.from(JSON.stringify({ certificates }));
    },

    async answer(challenge) {
      if (key === undefined) throw new Error('a challenge before the evidence');
      return Buffer.from(JSON.stringify(answerOf(key, nonceIn(challenge, key))));
    },
  };
}

function nonceIn(challenge: Uint8Array, key: KeyObject): Buffer {
  try {
    const text = Buffer.from(challenge).toString('utf8');
    const { rsa_signature: rsa, ecdsa_signature: ecdsa } = v.parse(
      challengeSchema,
      JSON.parse(text),
    );
    const nonce = (key.asymmetricKeyType === 'rsa' ? rsa : ecdsa)?.nonce ?? '';
    const bytes = Buffer.from(nonce, 'base64');
    if (bytes.length === NONCE_BYTES) return bytes;
  } catch (cause) {
    throw new Fault('ATTESTATION_DENIED', "the server's challenge is malformed", { cause });
  }
  throw new Fault('ATTESTATION_DENIED', "the server's challenge is not for this node's key");
}

/** A nonce of our own, so that nobody can choose what the key signs. */
function answerOf(key: KeyObject, theirs: Buffer) {
  const ours = randomBytes(NONCE_BYTES);
  const signed = Buffer.concat([theirs, ours]);
  const nonce = ours.toString('base64');
  if (key.asymmetricKeyType === 'rsa') {
    const padding = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
    const signature = sign('sha256', signed, { key, ...padding }).toString('base64');
    return { rsa_signature: { nonce, signature }, ecdsa_signature: null };
  }
  const numbers = DerReader.inside(DerReader.only(sign('sha256', signed, key), TAG.sequence));
  const next = () => readUnsigned(numbers.take(TAG.integer)).toString('base64');
  return { rsa_signature: null, ecdsa_signature: { nonce, r: next(), s: next() } };
}

async function readChain(file: string): Promise<Certificate[]> {
  const { text } = await readSmall(file);
  const chain = certificatesIn(file, text);
  if (chain.length <= MOST_CERTIFICATES) return chain;
  throw invalid(`${file} holds ${chain.length} certificates: the node's, then up to four above it`);
}

function certificatesIn(file: string, text: string): Certificate[] {
  try {
    return decodePem('CERTIFICATE', text).map(parseCertificate);
  } catch (cause) {
    throw new Fault('CONFIG_INVALID', `${file} holds no certificates`, { cause });
  }
}

async function readKey(file: string): Promise<KeyObject> {
  const { text, mode } = await readSmall(file);
  if ((mode & 0o077) !== 0) throw invalid(`${file} can be read by others: its mode must be 0600`);
  try {
    return createPrivateKey(text);
  } catch {
    throw invalid(`${file} holds no private key`);
  }
}

async function readSmall(file: string): Promise<{ readonly text: string; readonly mode: number }> {
  try {
    await using handle = await open(file, 'r');
    const { size, mode } = await handle.stat();
    if (size > MAXIMUM_FILE_BYTES) throw new Error(`larger than ${MAXIMUM_FILE_BYTES} bytes`);
    return { text: await handle.readFile('latin1'), mode };
  } catch (cause) {
    throw new Fault('CONFIG_INVALID', `${file} cannot be read`, { cause });
  }
}

function invalid(message: string): Fault {
  return new Fault('CONFIG_INVALID', message);
}
