/**
 * What a client may set when it connects (threats P11). Names are compared in lower case, as the
 * server does.
 */
import type { PostgresError } from '../wire/errors.ts';

/** Settings on which the gateway's own reading of a statement depends, and the value they keep. */
export const PINNED_SETTINGS: ReadonlyMap<string, string> = new Map([
  ['client_encoding', 'UTF8'],
  ['standard_conforming_strings', 'on'],
  ['backslash_quote', 'safe_encoding'],
]);

/** Settings that change who the session is: never from a client. */
const IDENTITY_SETTINGS: ReadonlySet<string> = new Set(['role', 'session_authorization']);

const ALLOWED: ReadonlySet<string> = new Set([
  'application_name',
  'bytea_output',
  'client_min_messages',
  'datestyle',
  'default_transaction_deferrable',
  'default_transaction_isolation',
  'default_transaction_read_only',
  'extra_float_digits',
  'geqo',
  'idle_in_transaction_session_timeout',
  'intervalstyle',
  'jit',
  'lock_timeout',
  'search_path',
  'statement_timeout',
  'timezone',
  'xmloption',
]);

/** Kept with the session, unknown to the server: why the client opens it. */
export const REASON_SETTING = 'writ.reason';

/** What a client may ask to have set; undefined if `name` is fine with `value`. */
export function refuseSetting(name: string, value: string): PostgresError | undefined {
  const pinned = PINNED_SETTINGS.get(name);
  if (pinned !== undefined) {
    if (isPinnedValue(name, value)) return undefined;
    return refused(`setting "${name}" is pinned to ${pinned} by the gateway`);
  }
  if (ALLOWED.has(name) || name === REASON_SETTING) return undefined;
  if (IDENTITY_SETTINGS.has(name)) {
    return refused(`setting "${name}" belongs to the gateway: the grant decides who you are`);
  }
  return refused(`setting "${name}" cannot be set through the gateway`);
}

/**
 * Whether a value that a client names, or that the backend reports, is the pinned one. Clients write
 * the encoding as `utf-8`, `'utf-8'`, `UTF8`, `unicode`.
 */
export function isPinnedValue(name: string, value: string): boolean {
  const plain = value.toLowerCase().replaceAll(/[^a-z0-9_]/g, '');
  if (name === 'client_encoding') return plain === 'utf8' || plain === 'unicode';
  if (name === 'standard_conforming_strings') return ['on', 'true', 'yes', '1'].includes(plain);
  return plain === PINNED_SETTINGS.get(name);
}

/** Whether a value that the backend reports shows that a session is no longer what it was opened as. */
export function breaksPin(name: string, value: string, role: string): boolean {
  switch (name) {
    case 'client_encoding':
    case 'standard_conforming_strings':
      return !isPinnedValue(name, value);
    case 'session_authorization':
      return value !== role;
    case 'role':
      return value !== role && value !== 'none';
    case 'is_superuser':
      return value !== 'off';
    default:
      return false;
  }
}

/**
 * Splits the `options` of a StartupMessage into settings.
 * Source: PostgreSQL 15, pg_split_opts: blanks separate, a backslash takes the next character as it is.
 * @returns undefined if it holds anything but `-c name=value` and `--name=value`
 */
export function parseOptions(options: string): (readonly [string, string])[] | undefined {
  const settings: (readonly [string, string])[] = [];
  const words = splitWords(options);
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    const text = word === '-c' ? words.shift() : settingOf(word);
    const match = /^([A-Za-z_][\w.-]*)=(.*)$/s.exec(text ?? '');
    if (match?.[1] === undefined || match[2] === undefined) return undefined;
    settings.push([match[1].toLowerCase().replaceAll('-', '_'), match[2]]);
  }
  return settings;
}

function settingOf(word: string): string | undefined {
  return word.startsWith('-c') || word.startsWith('--') ? word.slice(2) : undefined;
}

function splitWords(options: string): string[] {
  const words: string[] = [];
  for (const [word] of options.matchAll(/(?:\\[\s\S]|[^\s\\])+/g)) {
    words.push(word.replaceAll(/\\([\s\S])/g, '$1'));
  }
  return words;
}

function refused(message: string): PostgresError {
  return { severity: 'FATAL', sqlstate: '42501', message };
}
