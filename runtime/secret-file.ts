import { open } from 'node:fs/promises';

const MOST_BYTES = 64 * 1024;

/**
 * The secret in a file, without the newline at its end.
 * @returns bytes of its own, which the caller may overwrite
 * @throws Error that names the file and holds nothing of it
 */
export async function readSecretFile(path: string): Promise<Buffer> {
  await using file = await openFile(path);
  const buffer = Buffer.alloc(MOST_BYTES + 1);
  let length = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length);
    if (bytesRead === 0) break;
    length += bytesRead;
    if (length > MOST_BYTES) throw new Error(`${path} is longer than 64 KiB`);
  }
  if (buffer[length - 1] === 0x0a) length -= buffer[length - 2] === 0x0d ? 2 : 1;
  if (length <= 0) throw new Error(`${path} is empty`);
  return buffer.subarray(0, length);
}

async function openFile(path: string) {
  const file = await open(path, 'r');
  return Object.assign(file, { [Symbol.asyncDispose]: () => file.close() });
}
