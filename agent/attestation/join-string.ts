import { open } from 'node:fs/promises';
import { Fault } from '../../runtime/fault.ts';

const MAXIMUM_BYTES = 1024;
/** Writ's own tokens are 43 base64url characters, SPIRE's are UUIDs. */
const JOIN_STRING = /^writ1\.([A-Za-z0-9_-]{16,128})\.([0-9a-f]{64}(?:\.[0-9a-f]{64})?)$/;

/** What `writ token create` prints, taken apart. */
export interface JoinString {
  /** The secret that admits one agent. */
  readonly token: string;
  /**
   * Lower-case hex SHA-256 of the DER of the trust domain's root: how the server is known. While the
   * next root is prepared there are two, for either may sign when the string is used.
   */
  readonly pins: readonly string[];
}

/**
 * Reads a file that holds one join string.
 * @throws Fault `CONFIG_INVALID`, never with the text of the file
 */
export async function readJoinString(file: string): Promise<JoinString> {
  let text: string;
  try {
    text = await readStart(file);
  } catch (cause) {
    throw new Fault('CONFIG_INVALID', `${file}: the join string cannot be read`, { cause });
  }
  const [, token, pins] = JOIN_STRING.exec(text.trim()) ?? [];
  if (token === undefined || pins === undefined) {
    const expected = 'expected one line such as `writ token create` prints';
    throw new Fault('CONFIG_INVALID', `${file}: no join string; ${expected}`);
  }
  return { token, pins: pins.split('.') };
}

async function readStart(path: string): Promise<string> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAXIMUM_BYTES), 0, MAXIMUM_BYTES, 0);
    return buffer.subarray(0, bytesRead).toString('latin1');
  } finally {
    await file.close();
  }
}
