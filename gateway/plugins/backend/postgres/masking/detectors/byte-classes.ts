/** What kinds of characters a byte stands for, as bits: one look-up for each byte of a cell. */
export const DIGIT = 1;
export const WORD = 2;
export const BASE64URL = 4;
export const MAIL_LOCAL = 8;
export const MAIL_DOMAIN = 16;

export const BYTE_CLASSES = table();

function table(): Uint8Array {
  const classes = new Uint8Array(256);
  const add = (characters: string, bits: number) => {
    for (const character of characters) {
      const code = character.charCodeAt(0);
      classes[code] = (classes[code] ?? 0) | bits;
    }
  };
  const digits = '0123456789';
  const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';
  add(digits, DIGIT);
  add(`${digits}${letters}_`, WORD);
  add(`${digits}${letters}_-`, BASE64URL);
  add(`${digits}${letters}._%+-`, MAIL_LOCAL);
  add(`${digits}${letters}.-`, MAIL_DOMAIN);
  return classes;
}

export function isOf(data: Uint8Array, at: number, bits: number): boolean {
  return ((BYTE_CLASSES[data[at] ?? 0] ?? 0) & bits) !== 0;
}

/** Where the run of such bytes that begins at `at` ends, at most at `end`. */
export function runEnd(data: Uint8Array, at: number, end: number, bits: number): number {
  let next = at;
  while (next < end && isOf(data, next, bits)) next += 1;
  return next;
}
