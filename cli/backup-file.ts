/**
 * The file that a backup is kept in: one line that says what it is, then the backup, compressed, and
 * encrypted where a passphrase was given. It holds the authorities' private keys: mode 0600 always.
 *
 * Encrypted: scrypt (N 2^17, r 8, p 1) makes the key from the passphrase and 16 bytes of salt, AES-256-GCM
 * encrypts; salt and IV (12 bytes) come before, the tag (16 bytes) after the text.
 */
import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Readable, Transform, type TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { createGunzip, createGzip } from 'node:zlib';
import { Fault } from '../runtime/fault.ts';

const PLAIN = Buffer.from('writ backup 1 gzip\n');
const SEALED = Buffer.from('writ backup 1 gzip scrypt aes-256-gcm\n');
const SALT_BYTES = 16;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const SCRYPT = { N: 2 ** 17, r: 8, p: 1, maxmem: 256 * 1024 * 1024 };
const LEAST_PASSPHRASE = 12;

const deriveKey = promisify<string, Buffer, number, typeof SCRYPT, Buffer>(scrypt);

/**
 * Writes the file whole or not at all.
 * @param chunks the backup as the server sends it
 * @throws Fault FAILED_PRECONDITION if the file is there already
 */
export async function writeBackupFile(
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  passphrase: string | undefined,
): Promise<void> {
  const part = `${path}.part`;
  await refuseExisting(path);
  try {
    await rm(part, { force: true });
    const handle = await open(part, 'wx', 0o600);
    const target = createWriteStream(part, { fd: handle, flush: true });
    const source = Readable.from(chunks, { objectMode: false });
    if (passphrase === undefined) {
      target.write(PLAIN);
      await pipeline(source, createGzip(), target);
    } else {
      const salt = randomBytes(SALT_BYTES);
      const iv = randomBytes(IV_BYTES);
      const cipher = createCipheriv('aes-256-gcm', await keyOf(passphrase, salt), iv);
      target.write(Buffer.concat([SEALED, salt, iv]));
      await pipeline(source, createGzip(), cipher, appendTag(cipher), target);
    }
    await rename(part, path);
    await using folder = await open(dirname(path), 'r');
    await folder.sync();
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
}

/**
 * What was written. Text that was tampered with shows at its end at the latest: act on nothing before.
 * @throws Fault STATE_UNUSABLE if it is no backup, is damaged, or the passphrase is not the one
 */
export async function* readBackupFile(
  path: string,
  passphrase: string | undefined,
): AsyncGenerator<Uint8Array> {
  const head = await headOf(path);
  try {
    if (head.startsWith(PLAIN.toString('latin1'))) {
      yield* throughAll([createReadStream(path, { start: PLAIN.length }), createGunzip()]);
      return;
    }
    if (!head.startsWith(SEALED.toString('latin1')))
      throw new Fault('STATE_UNUSABLE', `${path} is no backup of a Writ server`);
    if (passphrase === undefined)
      throw new Fault('STATE_UNUSABLE', `${path} is encrypted: name its --passphrase-file`);
    yield* throughAll(await unsealing(path, passphrase));
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw new Fault('STATE_UNUSABLE', `${path} is damaged, or its passphrase another`, {
      cause: error,
    });
  }
}

/** @throws Fault CONFIG_INVALID if it is too short to keep anybody out */
export function checkPassphrase(text: string): string {
  const passphrase = text.replace(/\r?\n$/, '');
  if (passphrase.length >= LEAST_PASSPHRASE) return passphrase;
  throw new Fault(
    'CONFIG_INVALID',
    `the passphrase has fewer than ${LEAST_PASSPHRASE} characters: make one with openssl rand -base64 24`,
  );
}

async function unsealing(path: string, passphrase: string) {
  const start = SEALED.length + SALT_BYTES + IV_BYTES;
  await using handle = await open(path, 'r');
  const { size } = await handle.stat();
  if (size < start + TAG_BYTES) throw new Fault('STATE_UNUSABLE', `${path} is cut short`);
  const before = Buffer.alloc(SALT_BYTES + IV_BYTES);
  const tag = Buffer.alloc(TAG_BYTES);
  await handle.read(before, 0, before.length, SEALED.length);
  await handle.read(tag, 0, TAG_BYTES, size - TAG_BYTES);
  const key = await keyOf(passphrase, before.subarray(0, SALT_BYTES));
  const decipher = createDecipheriv('aes-256-gcm', key, before.subarray(SALT_BYTES));
  decipher.setAuthTag(tag);
  const end = size - TAG_BYTES - 1;
  return [createReadStream(path, { start, end }), decipher, createGunzip()] as const;
}

async function* throughAll(
  streams: readonly [NodeJS.ReadableStream, ...NodeJS.ReadWriteStream[]],
): AsyncGenerator<Uint8Array> {
  const last = streams.at(-1);
  if (!(last instanceof Readable)) throw new Error('the last stream cannot be read');
  const done = pipeline(streams);
  done.catch(() => undefined);
  yield* last as AsyncIterable<Uint8Array>;
  await done;
}

/** GCM's tag follows the text that it proves. */
function appendTag(cipher: { getAuthTag(): Buffer }): Transform {
  return new Transform({
    transform: (chunk: Buffer, _encoding, done: TransformCallback) => done(null, chunk),
    flush: (done) => done(null, cipher.getAuthTag()),
  });
}

function keyOf(passphrase: string, salt: Buffer): Promise<Buffer> {
  return deriveKey(passphrase, salt, 32, SCRYPT);
}

async function headOf(path: string): Promise<string> {
  try {
    await using handle = await open(path, 'r');
    const head = Buffer.alloc(SEALED.length);
    const { bytesRead } = await handle.read(head, 0, head.length, 0);
    return head.toString('latin1', 0, bytesRead);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
    throw new Fault('STATE_UNUSABLE', `${path} cannot be read: ${code}`, { cause: error });
  }
}

async function refuseExisting(path: string): Promise<void> {
  let known: AsyncDisposable;
  try {
    known = await open(path, 'r');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return;
    throw new Fault('FAILED_PRECONDITION', `${path} cannot be written`, { cause: error });
  }
  await known[Symbol.asyncDispose]();
  throw new Fault('FAILED_PRECONDITION', `${path} is there already: name another file`);
}
