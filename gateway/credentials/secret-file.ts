import { open } from 'node:fs/promises';

const MOST_BYTES = 64 * 1024;

/**
 * The secret in a file, without the newline at its end.
 * @throws Error that names the file and holds nothing of it
 */
export async function readSecretFile(path: string): Promise<string> {
  await using file = await openFile(path);
  const buffer = Buffer.alloc(MOST_BYTES + 1);
  let length = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length);
    if (bytesRead === 0) break;
    length += bytesRead;
    if (length > MOST_BYTES) throw new Error(`${path} is longer than 64 KiB`);
  }
  const text = buffer.toString('utf8', 0, length).replace(/\r?\n$/, '');
  buffer.fill(0);
  if (text === '') throw new Error(`${path} is empty`);
  return text;
}

async function openFile(path: string) {
  const file = await open(path, 'r');
  return Object.assign(file, { [Symbol.asyncDispose]: () => file.close() });
}
