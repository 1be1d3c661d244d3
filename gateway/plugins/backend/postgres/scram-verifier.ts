import { createHash, createHmac, pbkdf2, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';

const derive = promisify(pbkdf2);

/** What `writ.open_session` accepts; the least that RFC 7677 allows, enough for a random password. */
const ITERATIONS = 4096;

/**
 * What PostgreSQL stores in place of a password, so that the password itself is in no statement and
 * no log of the server.
 * @param password ASCII, so that SASLprep leaves it as it is
 * Source: RFC 5803; PostgreSQL 15, pg_authid.rolpassword
 */
export async function scramVerifier(password: string): Promise<string> {
  const salt = randomBytes(16);
  const salted = await derive(password, salt, ITERATIONS, 32, 'sha256');
  const storedKey = createHash('sha256').update(hmac(salted, 'Client Key')).digest('base64');
  const serverKey = hmac(salted, 'Server Key').toString('base64');
  return `SCRAM-SHA-256$${ITERATIONS}:${salt.toString('base64')}$${storedKey}:${serverKey}`;
}

function hmac(key: Uint8Array, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest();
}
