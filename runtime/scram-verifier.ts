import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';

/**
 * Iterations make guesses of a password dear. Nobody guesses 256 random bits that serve for a minute,
 * and the server would spend them at each opening, to see that the password is not the empty one.
 */
const ITERATIONS = 1;
/** For a login that stays: what clients ask for at least. Source: RFC 7677 section 4. */
export const USUAL_ITERATIONS = 4096;

/**
 * What PostgreSQL stores in place of a password, so that the password itself is in no statement and
 * no log of the server.
 * @param password of 256 random bits, in ASCII, so that SASLprep leaves it as it is
 * Source: RFC 5803; PostgreSQL 15, pg_authid.rolpassword
 */
export function scramVerifier(password: string, iterations = ITERATIONS): string {
  const salt = randomBytes(16);
  const salted = pbkdf2Sync(password, salt, iterations, 32, 'sha256');
  const storedKey = createHash('sha256').update(hmac(salted, 'Client Key')).digest('base64');
  const serverKey = hmac(salted, 'Server Key').toString('base64');
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${storedKey}:${serverKey}`;
}

function hmac(key: Uint8Array, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest();
}
