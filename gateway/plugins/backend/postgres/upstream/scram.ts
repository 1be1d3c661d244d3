/**
 * The client's side of SCRAM-SHA-256 and, where TLS gives something to bind it to, SCRAM-SHA-256-PLUS.
 *
 * Source: RFC 5802, RFC 7677; PostgreSQL 15, "SASL Authentication" (the user name is the one of the
 * StartupMessage). The server proves in its last message that it knows the verifier, too.
 */
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { Fault } from '../../../../../runtime/fault.ts';
import { prepared } from './sasl-prep.ts';

export const SCRAM_SHA_256 = 'SCRAM-SHA-256';
export const SCRAM_SHA_256_PLUS = 'SCRAM-SHA-256-PLUS';

const derive = promisify(pbkdf2);

/**
 * What the exchange says of the connection: what it is bound to; that it could have been bound, so
 * that a server that offers binding finds out who left its offer away; or that it cannot be.
 */
export type Channel = { readonly endPoint: Uint8Array } | 'unused' | 'none';

/** How often a server may ask for the password to be hashed. */
export interface IterationBounds {
  readonly least: number;
  readonly most: number;
}

/** Of 256 random bits: whatever the backend asks for, its proof gives nothing to guess. */
export const RANDOM_PASSWORD: IterationBounds = { least: 1, most: 4096 };
/** One that somebody may have thought of. Source: RFC 7677 section 4 for the least. */
export const CHOSEN_PASSWORD: IterationBounds = { least: 4096, most: 1_000_000 };

export interface ScramOptions {
  readonly channel: Channel;
  readonly iterations: IterationBounds;
  /** Random unless given. */
  readonly nonce?: string;
}

export interface ScramExchange {
  readonly mechanism: typeof SCRAM_SHA_256 | typeof SCRAM_SHA_256_PLUS;
  readonly first: string;
  /** @throws Fault BACKEND_FAILED */
  answer(serverFirst: string): Promise<string>;
  /** @throws Fault BACKEND_FAILED unless the server knows the verifier */
  verify(serverFinal: string): void;
}

/** One login; the password is used in `answer` and kept nowhere else. */
export function scramExchange(password: string, options: ScramOptions): ScramExchange {
  const { channel, iterations: bounds, nonce = randomBytes(18).toString('base64') } = options;
  const bare = `n=,r=${nonce}`;
  const { header, input } = gs2(channel);
  let expected: Buffer | undefined;
  return {
    mechanism: typeof channel === 'object' ? SCRAM_SHA_256_PLUS : SCRAM_SHA_256,
    first: header + bare,

    async answer(serverFirst: string): Promise<string> {
      const { serverNonce, salt, iterations } = readServerFirst(serverFirst, nonce, bounds);
      const salted = await derive(prepared(password), salt, iterations, 32, 'sha256');
      const clientKey = hmac(salted, 'Client Key');
      const storedKey = createHash('sha256').update(clientKey).digest();
      const withoutProof = `c=${input.toString('base64')},r=${serverNonce}`;
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
  };
}

/** The header of the first message, and what the last one repeats with the binding's data. */
function gs2(channel: Channel): { header: string; input: Buffer } {
  const flags = { unused: 'y,,', none: 'n,,' } as const;
  if (typeof channel === 'string') {
    return { header: flags[channel], input: Buffer.from(flags[channel]) };
  }
  const header = 'p=tls-server-end-point,,';
  return { header, input: Buffer.concat([Buffer.from(header), channel.endPoint]) };
}

function readServerFirst(text: string, nonce: string, { least, most }: IterationBounds) {
  const match = /^r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=(\d{1,7})$/.exec(text);
  const [, serverNonce = '', salt = '', iterations = ''] = match ?? [];
  if (!serverNonce.startsWith(nonce) || serverNonce.length === nonce.length) {
    throw failed('the backend did not take up the nonce');
  }
  const count = Number(iterations);
  if (count < least || count > most) {
    throw failed(
      `the backend asks for ${count} iterations: between ${least} and ${most} are taken`,
    );
  }
  return { serverNonce, salt: Buffer.from(salt, 'base64'), iterations: count };
}

function hmac(key: Uint8Array, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest();
}

function failed(reason: string): Fault {
  return new Fault('BACKEND_FAILED', 'login to the backend failed', { cause: new Error(reason) });
}
