import { open } from 'node:fs/promises';
import { Fault } from '../../../runtime/fault.ts';

const MAXIMUM_BYTES = 16 * 1024;

/** The token in a file, which somebody else keeps fresh. @throws Fault CONFIG_INVALID, never with the token */
export async function readTokenFile(path: string): Promise<string> {
  let text: string;
  try {
    await using file = await open(path, 'r');
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAXIMUM_BYTES + 1), 0);
    text = buffer.subarray(0, bytesRead).toString('latin1').trim();
  } catch (cause) {
    throw new Fault('CONFIG_INVALID', `${path} cannot be read`, { cause });
  }
  if (/^[\x21-\x7e]+$/.test(text) && text.length <= MAXIMUM_BYTES) return text;
  throw new Fault('CONFIG_INVALID', `${path} holds no token`);
}
