import { Fault } from '../../runtime/fault.ts';

/** RFC 7468 text, ending in a newline. */
export function encodePem(label: string, bytes: Uint8Array): string {
  const lines =
    Buffer.from(bytes)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

const BLOCK = /^-----BEGIN ([A-Z0-9 ]{1,40})-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END \1-----\r?$/gm;
const MAXIMUM_PEM_CHARACTERS = 1_048_576;

/**
 * The bytes of every block, in their order. Text between blocks is passed over; a block of another
 * label, or none at all, is refused.
 * @param text at most 1 MiB
 * @throws Fault INVALID_ARGUMENT
 */
export function decodePem(label: string, text: string): Uint8Array[] {
  if (text.length > MAXIMUM_PEM_CHARACTERS) throw unreadable(label, 'longer than 1 MiB');
  const blocks = [...text.matchAll(BLOCK)];
  if (blocks.length === 0 || blocks.length !== text.split('-----BEGIN ').length - 1) {
    throw unreadable(label, 'a block is missing or malformed');
  }
  return blocks.map(([, found, body = '']) => {
    if (found !== label) throw unreadable(label, `found a block ${JSON.stringify(found)}`);
    const packed = body.replace(/[\r\n]/g, '');
    const bytes = Buffer.from(packed, 'base64');
    if (bytes.toString('base64') !== packed) throw unreadable(label, 'malformed base64');
    return bytes;
  });
}

function unreadable(label: string, why: string): Fault {
  return new Fault('INVALID_ARGUMENT', `PEM ${label}: ${why}`);
}
