import { SshWriter } from '../../../../identity/ssh/wire.ts';
import { Fault } from '../../../../runtime/fault.ts';

/** Message numbers. Source: RFC 4250 4.1.2. */
export const MESSAGE = {
  DISCONNECT: 1,
  IGNORE: 2,
  UNIMPLEMENTED: 3,
  DEBUG: 4,
  SERVICE_REQUEST: 5,
  SERVICE_ACCEPT: 6,
  EXT_INFO: 7,
  KEXINIT: 20,
  USERAUTH_REQUEST: 50,
  USERAUTH_FAILURE: 51,
  USERAUTH_SUCCESS: 52,
  USERAUTH_BANNER: 53,
  USERAUTH_PK_OK: 60,
  GLOBAL_REQUEST: 80,
  REQUEST_SUCCESS: 81,
  REQUEST_FAILURE: 82,
  CHANNEL_OPEN: 90,
  CHANNEL_OPEN_CONFIRMATION: 91,
  CHANNEL_OPEN_FAILURE: 92,
  CHANNEL_WINDOW_ADJUST: 93,
  CHANNEL_DATA: 94,
  CHANNEL_EXTENDED_DATA: 95,
  CHANNEL_EOF: 96,
  CHANNEL_CLOSE: 97,
  CHANNEL_REQUEST: 98,
  CHANNEL_SUCCESS: 99,
  CHANNEL_FAILURE: 100,
} as const;

/** A channel request: its sender reads no more of the channel. Source: OpenSSH, PROTOCOL 2.1. */
export const END_OF_WRITE = 'eow@openssh.com';

/**
 * A global request: whoever asks for a session after it is not its sender, and the connection ends.
 * Source: OpenSSH, PROTOCOL 2.2.
 */
export const NO_MORE_SESSIONS = 'no-more-sessions@openssh.com';

/** Why one side ends a connection. Source: RFC 4253 11.1. */
export const DISCONNECT = {
  PROTOCOL_ERROR: 2,
  SERVICE_NOT_AVAILABLE: 7,
  BY_APPLICATION: 11,
  NO_MORE_AUTH_METHODS_AVAILABLE: 14,
} as const;

/** Why a channel does not open. Source: RFC 4254 5.1. */
export const OPEN_FAILURE = {
  ADMINISTRATIVELY_PROHIBITED: 1,
  CONNECT_FAILED: 2,
  UNKNOWN_CHANNEL_TYPE: 3,
  RESOURCE_SHORTAGE: 4,
} as const;

const LONGEST_WORD = 300;

/** Whether a message belongs above the transport. Source: RFC 4250 4.1.1. */
export function isOfService(number: number): boolean {
  const isAsking = number >= MESSAGE.SERVICE_REQUEST && number <= MESSAGE.EXT_INFO;
  return isAsking || number >= MESSAGE.USERAUTH_REQUEST;
}

/** Whether a message is to be thrown away, whenever it comes. */
export function isIgnored(number: number): boolean {
  return number === MESSAGE.IGNORE || number === MESSAGE.DEBUG || number === MESSAGE.UNIMPLEMENTED;
}

export function message(number: number): SshWriter {
  return new SshWriter().u8(number);
}

export function disconnectMessage(code: number, text: string): Buffer {
  return message(MESSAGE.DISCONNECT).u32(code).string(printable(text)).string('').finish();
}

/** What a peer says, fit for one line of a terminal or a log: no control characters, not long. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').slice(0, LONGEST_WORD);
}

/** @returns a Fault for what the peer may not do; it ends the connection */
export function violation(text: string, cause?: unknown): Fault {
  return new Fault('PROTOCOL_VIOLATION', text, cause === undefined ? undefined : { cause });
}
