import { refuseControls } from './plain-text.ts';
import { SshReader, SshWriter, sshInvalid } from './wire.ts';

const MOST_OPTIONS = 64;
const LONGEST_LIST = 32_768;
const NAME = /^[\x21-\x7e]{1,128}$/;

/**
 * Critical options or extensions: a value for each name, '' for one that is a mere flag.
 * @param bytes untrusted
 * @throws Fault SSH_INVALID
 *
 * Source: PROTOCOL.certkeys: sorted by name, each at most once. Stricter: a value is one text, not
 * empty (that would read like a flag), without control characters; a name is visible ASCII.
 */
export function readOptions(bytes: Buffer): ReadonlyMap<string, string> {
  const reader = new SshReader(bytes, 'SSH certificate');
  const options = new Map<string, string>();
  let before = '';
  while (reader.rest > 0) {
    const name = reader.text();
    const value = readValue(reader.string());
    checkOption(name, value);
    // Names are ASCII, so that text and bytes have one order.
    if (name <= before) throw sshInvalid('SSH certificate: options not sorted, or one twice');
    before = name;
    options.set(name, value);
    if (options.size > MOST_OPTIONS) throw tooMany();
  }
  return options;
}

/** @throws Fault SSH_INVALID if readOptions would not take them */
export function writeOptions(options: Readonly<Record<string, string>>): Buffer {
  const names = Object.keys(options).sort((a, b) => (a < b ? -1 : 1));
  if (names.length > MOST_OPTIONS) throw tooMany();
  const writer = new SshWriter();
  for (const name of names) {
    const value = options[name] ?? '';
    checkOption(name, value);
    writer.string(name).string(value === '' ? '' : new SshWriter().string(value).finish());
  }
  return boundOptions(writer.finish());
}

/** @throws Fault SSH_INVALID */
export function boundOptions(bytes: Buffer): Buffer {
  if (bytes.length > LONGEST_LIST) throw sshInvalid('SSH certificate: options too long');
  return bytes;
}

/** A value is a string within the string that any option has. */
function readValue(data: Buffer): string {
  if (data.length === 0) return '';
  const reader = new SshReader(data, 'SSH certificate');
  const value = reader.text();
  reader.end();
  if (value === '') throw sshInvalid('SSH certificate: option with an empty value');
  return value;
}

function checkOption(name: string, value: string): void {
  if (!NAME.test(name)) throw sshInvalid('SSH certificate: malformed name of an option');
  refuseControls(value, 'SSH certificate: value of an option');
}

function tooMany(): Error {
  return sshInvalid(`SSH certificate: more than ${MOST_OPTIONS} options`);
}
