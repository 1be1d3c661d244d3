/**
 * Values that are told by their form, whatever column they stand in. Each detector looks at one place
 * of a cell and reads a bounded run from there: the whole scan is linear in the cell's length.
 */
import { BASE64URL, DIGIT, isOf, MAIL_DOMAIN, MAIL_LOCAL, runEnd, WORD } from './byte-classes.ts';

/** A part of a cell. */
export interface Found {
  readonly start: number;
  readonly end: number;
}

/** Looks at `at`, in a cell from `start` to `end`. */
export type Look = (data: Buffer, at: number, start: number, end: number) => Found | undefined;

export interface BuiltIn {
  /** Bytes at which there is something to look at. */
  readonly triggers: string;
  readonly look: Look;
}

const DIGITS = '0123456789';
const SPACE = 0x20;
const DASH = 0x2d;
const DOT = 0x2e;
const LONGEST_CARD = 19;
const SHORTEST_CARD = 13;
const LONGEST_LOCAL = 64;
const LONGEST_DOMAIN = 255;
const LONGEST_KEY = 16_384;

/** Numbers of 13 to 19 digits, in groups or not, whose check digit is right (Luhn, ISO/IEC 7812-1). */
const card: Look = (data, at, start, end) => {
  if (isDigitBefore(data, at, start)) return undefined;
  const last = groupedEnd(data, at, end);
  return last - at >= SHORTEST_CARD && isCard(data, at, last)
    ? { start: at, end: last }
    : undefined;
};

/** Where digits with single spaces or dashes between them end; not looked for far behind the longest number. */
function groupedEnd(data: Buffer, at: number, end: number): number {
  const limit = Math.min(end, at + 2 * LONGEST_CARD);
  let next = at;
  while (next < limit && (isOf(data, next, DIGIT) || (next + 1 < end && isGap(data, next)))) {
    next += 1;
  }
  return next;
}

function isCard(data: Buffer, start: number, end: number): boolean {
  let sum = 0;
  let count = 0;
  for (let at = end - 1; at >= start; at -= 1) {
    if (!isOf(data, at, DIGIT)) continue;
    const digit = (data[at] ?? 0) - 0x30;
    const doubled = digit > 4 ? digit * 2 - 9 : digit * 2;
    sum += count % 2 === 0 ? digit : doubled;
    count += 1;
  }
  return count >= SHORTEST_CARD && count <= LONGEST_CARD && sum % 10 === 0;
}

function isGap(data: Buffer, at: number): boolean {
  return (data[at] === SPACE || data[at] === DASH) && isOf(data, at + 1, DIGIT);
}

/** A number in groups is looked at from its first digit alone. */
function isDigitBefore(data: Buffer, at: number, start: number): boolean {
  return at > start && isOf(data, at - 1, DIGIT);
}

/** A US social security number as it is written: three, two and four digits. */
const ssn: Look = (data, at, start, end) => {
  if (end - at < 11 || data[at + 3] !== DASH || isDigitBefore(data, at, start)) return undefined;
  for (let index = 0; index < 11; index += 1) {
    const wanted = index === 3 || index === 6;
    if (wanted ? data[at + index] !== DASH : !isOf(data, at + index, DIGIT)) return undefined;
  }
  const goesOn = at + 11 < end && isOf(data, at + 11, DIGIT);
  return goesOn ? undefined : { start: at, end: at + 11 };
};

/** RFC 5321's usual form, around its `@`. */
const email: Look = (data, at, start, end) => {
  let first = at;
  const earliest = Math.max(start, at - LONGEST_LOCAL);
  while (first > earliest && isOf(data, first - 1, MAIL_LOCAL)) first -= 1;
  const last = runEnd(data, at + 1, Math.min(end, at + 1 + LONGEST_DOMAIN), MAIL_DOMAIN);
  const dot = data.subarray(at + 1, last).indexOf(DOT);
  return first < at && dot > 0 && at + 1 + dot + 2 < last ? { start: first, end: last } : undefined;
};

/** RFC 7519 in its compact form: two parts that begin with a JSON object, and a signature. */
const jwt: Look = (data, at, start, end) => {
  if (!begins(data, at, end, 'eyJ') || (at > start && isOf(data, at - 1, BASE64URL))) {
    return undefined;
  }
  const limit = Math.min(end, at + LONGEST_KEY);
  const header = runEnd(data, at, limit, BASE64URL);
  if (!begins(data, header, end, '.eyJ')) return undefined;
  const claims = runEnd(data, header + 1, limit, BASE64URL);
  if (data[claims] !== DOT || claims >= end) return { start: at, end: claims };
  return { start: at, end: runEnd(data, claims + 1, limit, BASE64URL) };
};

const KEY_PREFIXES: readonly (readonly [string, number])[] = [
  ['AKIA', 16],
  ['ASIA', 16],
  ['AIza', 35],
  ['ghp_', 36],
  ['gho_', 36],
  ['ghs_', 36],
  ['ghu_', 36],
  ['ghr_', 36],
  ['github_pat_', 22],
  ['glpat-', 20],
  ['sk_live_', 16],
  ['sk_test_', 16],
  ['rk_live_', 16],
  ['sk-', 32],
  ['xoxb-', 20],
  ['xoxp-', 20],
  ['xoxa-', 20],
  ['npm_', 36],
  ['pypi-', 40],
  ['SG.', 40],
];
const LONGEST_API_KEY = 256;

/** Keys that begin with their issuer's mark. */
const apiKey: Look = (data, at, start, end) => {
  if (at > start && isOf(data, at - 1, WORD)) return undefined;
  for (const [prefix, least] of KEY_PREFIXES) {
    if (!begins(data, at, end, prefix)) continue;
    const from = at + prefix.length;
    const last = runEnd(data, from, Math.min(end, from + LONGEST_API_KEY), BASE64URL);
    if (last - from >= least) return { start: at, end: last };
  }
  return undefined;
};

const BEGIN = '-----BEGIN ';
const KEY_HEADER = 'PRIVATE KEY-----';
const END = '-----END ';

/** PEM (RFC 7468), to its end line or the end of the cell. */
const privateKey: Look = (data, at, _start, end) => {
  if (!begins(data, at, end, BEGIN)) return undefined;
  const header = data.subarray(at, Math.min(end, at + 64)).indexOf(KEY_HEADER);
  if (header < 0) return undefined;
  const body = data.subarray(at, end);
  const last = body.indexOf(END, header);
  const close = last < 0 ? -1 : body.indexOf(KEY_HEADER, last);
  return { start: at, end: close < 0 ? end : at + close + KEY_HEADER.length };
};

function begins(data: Buffer, at: number, end: number, text: string): boolean {
  if (at + text.length > end) return false;
  for (let index = 0; index < text.length; index += 1) {
    if (data[at + index] !== text.charCodeAt(index)) return false;
  }
  return true;
}

export const BUILT_IN: ReadonlyMap<string, BuiltIn> = new Map([
  ['card', { triggers: '23456', look: card }],
  ['ssn', { triggers: DIGITS, look: ssn }],
  ['email', { triggers: '@', look: email }],
  ['jwt', { triggers: 'e', look: jwt }],
  ['api-key', { triggers: 'AgsrxnpS', look: apiKey }],
  ['private-key', { triggers: '-', look: privateKey }],
]);
