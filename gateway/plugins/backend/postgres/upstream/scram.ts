/**
 * The client's side of SCRAM-SHA-256, without channel binding: TLS has verified the server.
 *
 * Source: RFC 5802, RFC 7677; PostgreSQL 15, "SASL Authentication" (the user name is the one of the
 * StartupMessage). The server proves in its last message that it knows the verifier, too.
 */
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { Fault } from '../../../../../runtime/fault.ts';

export const SCRAM_SHA_256 = 'SCRAM-SHA-256';

const GS2_HEADER = 'n,,';
const MOST_ITERATIONS = 4096;
const derive = promisify(pbkdf2);

export interface ScramExchange {
  readonly first: string;
  /** @throws Fault BACKEND_FAILED */
  answer(serverFirst: string): Promise<string>;
  /** @throws Fault BACKEND_FAILED unless the server knows the verifier */
  verify(serverFinal: string): void;
}

/**
 * One login; the password is used in `answer` and kept nowhere else.
 * @param password of 256 random bits: whatever the backend asks for, its proof gives nothing to guess
 */
export function scramExchange(password: string, nonce = randomBytes(18).toString('base64')) {
  const bare = `n=,r=${nonce}`;
  let expected: Buffer | undefined;
  return {
    first: GS2_HEADER + bare,

    async answer(serverFirst: string): Promise<string> {
      const { serverNonce, salt, iterations } = readServerFirst(serverFirst, nonce);
      const salted = await derive(password, salt, iterations, 32, 'sha256');
      const clientKey = hmac(salted, 'Client Key');
      const storedKey = createHash('sha256').update(clientKey).digest();
      const withoutProof = `c=${Buffer.from(GS2_HEADER).toString('base64')},r=${serverNonce}`;
      const authMessage = `${bare},${serverFirst},${withoutProof}`;
      const signature = hmac(storedKey, authMessage);
      const proof = clientKey.map((byte, index) => byte ^ (signature[index] ?? 0));
      expected = hmac(hmac(salted, 'Server Key'), authMessage);
      return `${withoutProof},p=${Buffer.from(proof).toString('base64')}`;
    },

    verify(serverFinal: string): void {
      const given = Buffer.from(/^v=([A-Za-z0-9+/=]+)$/.exec(serverFinal)?.[1] ?? '', 'base64');
      const proven =
        expected !== undefined &&
        given.length === expected.length &&
        timingSafeEqual(given, expected);
      if (!proven) throw failed('the backend did not prove that it knows the password');
    },
  } satisfies ScramExchange;
}

function readServerFirst(text: string, nonce: string) {
  const match = /^r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=(\d{1,7})$/.exec(text);
  const [, serverNonce = '', salt = '', iterations = ''] = match ?? [];
  if (!serverNonce.startsWith(nonce) || serverNonce.length === nonce.length) {
    throw failed('the backend did not take up the nonce');
  }
  const count = Number(iterations);
  if (count < 1 || count > MOST_ITERATIONS) {
    throw failed('the backend asks for an unreasonable number of iterations');
  }
  return { serverNonce, salt: Buffer.from(salt, 'base64'), iterations: count };
}

function hmac(key: Uint8Array, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest();
}

function failed(reason: string): Fault {
  return new Fault('BACKEND_FAILED', 'login to the backend failed', { cause: new Error(reason) });
}
