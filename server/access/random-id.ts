import { randomBytes } from 'node:crypto';

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';

/** A name nobody can guess: the prefix and 128 random bits in lower-case base32, e.g. `s_`. */
export function randomId(prefix: string): string {
  return prefix + base32(freshBytes());
}

const ID_BYTES = 16;
/** Asking for random bytes costs more than the bytes: enough for many ids, each used once. */
const IDS_AT_ONCE = 64;
let fresh = Buffer.alloc(0);

function freshBytes(): Uint8Array {
  if (fresh.length === 0) fresh = randomBytes(ID_BYTES * IDS_AT_ONCE);
  const bytes = fresh.subarray(0, ID_BYTES);
  fresh = fresh.subarray(ID_BYTES);
  return bytes;
}

/** RFC 4648 base32 in lower case, without padding. */
export function base32(bytes: Uint8Array): string {
  let bits = 0;
  let held = 0;
  let text = '';
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += ALPHABET[(held >> bits) & 31];
    }
    held &= (1 << bits) - 1;
  }
  return bits === 0 ? text : text + ALPHABET[(held << (5 - bits)) & 31];
}
