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

/** Kept with the session, unknown to the server: why the client opens it. */
export const REASON_SETTING = 'writ.reason';

/** Names of the rules that refuse to change what the gateway rests on, whatever grant or backend say. */
export type PinnedRule = 'pinned-setting' | 'set-role';

/**
 * Whether a change is one that no session may make. `role` may be set to `none` alone: that is what it is.
 * @param name in lower case
 * @param value undefined if the statement does not tell it
 */
export function refusePinned(name: string, value: string | undefined): PinnedRule | undefined {
  if (name === 'role') return value?.toLowerCase() === 'none' ? undefined : 'set-role';
  if (name === 'session_authorization') return 'set-role';
  if (!PINNED_SETTINGS.has(name)) return undefined;
  return value !== undefined && isPinnedValue(name, value) ? undefined : 'pinned-setting';
}

/** Whether it is the gateway's, so that no backend's document has a say. */
export function isGatewaysSetting(name: string): boolean {
  return PINNED_SETTINGS.has(name) || IDENTITY_SETTINGS.has(name) || name === REASON_SETTING;
}

/** What a client is told that asks, when it connects, for a setting which it may not have. */
export function settingRefused(name: string, rule: string): PostgresError {
  const message = `setting "${name}" cannot be set through the gateway: ${rule}`;
  return { severity: 'FATAL', sqlstate: '42501', message };
}

/**
 * Whether a value that a client names, or that the backend reports, is the pinned one. Clients write
 * the encoding as `utf-8`, `'utf-8'`, `utf_8`, `UTF8`, `unicode`: the server looks at letters and digits.
 */
export function isPinnedValue(name: string, value: string): boolean {
  const plain = value.toLowerCase().replaceAll(/[^a-z0-9_]/g, '');
  if (name === 'client_encoding') return ['utf8', 'unicode'].includes(plain.replaceAll('_', ''));
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
