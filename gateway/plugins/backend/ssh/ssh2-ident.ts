import { violation } from './ssh2-messages.ts';

/**
 * What we call ourselves as a server: OpenSSH's client tells of closed output (END_OF_WRITE), and that it
 * opens no more sessions, only to servers whose name begins so. Without a version no client takes it for
 * one of OpenSSH's with a known defect.
 *
 * Source: OpenSSH 9.2, compat.c (SSH_NEW_OPENSSH), nchan.c, ssh.c
 */
export const SERVER_IDENT = 'OpenSSH_Writ';
export const CLIENT_IDENT = 'Writ';

const PREFIX = 'SSH-';
const NEWLINE = 0x0a;
/** With the line's end. Source: RFC 4253 4.2. */
const LONGEST_IDENT = 255;
/** What a server may say before its identification. */
const LONGEST_GREETING = 8192;

/**
 * The length of the identification line that opens a connection, with a server's greeting before it;
 * undefined while it is not whole.
 * @param head untrusted: all that came so far
 * @param isClients whether the peer is a client, which must not greet
 * @throws Fault PROTOCOL_VIOLATION when no identification can follow
 */
export function identLength(head: Buffer, isClients: boolean): number | undefined {
  if (isClients && !PREFIX.startsWith(head.toString('latin1', 0, PREFIX.length))) {
    throw violation('no SSH identification line');
  }
  const from = isClients ? 0 : identStart(head);
  if (from === undefined) return undefined;
  const end = head.indexOf(NEWLINE, from);
  const length = (end < 0 ? head.length : end + 1) - from;
  if (length > LONGEST_IDENT) throw violation('SSH identification line too long');
  return end < 0 ? undefined : end + 1;
}

/**
 * Whether a peer of this name knows END_OF_WRITE; others may break off when they get one.
 * Source: OpenSSH, PROTOCOL 2.1
 */
export function knowsEndOfWrite(software: string): boolean {
  return software.startsWith('OpenSSH');
}

/** Reads what a peer says before its first packet. */
export class IdentReader {
  readonly #isClients: boolean;
  #head = Buffer.alloc(0);
  #software: string | undefined;

  /** @param isClients whether the peer is a client */
  constructor(isClients: boolean) {
    this.#isClients = isClients;
  }

  get isWhole(): boolean {
    return this.#software !== undefined;
  }

  /** The name that the peer gives itself, untrusted; empty before it has. */
  get software(): string {
    return this.#software ?? '';
  }

  /**
   * The bytes that ssh2 may have: it loses some of a first line that comes in more than two pieces, so
   * it gets the whole.
   * @throws Fault PROTOCOL_VIOLATION
   */
  take(chunk: Buffer): Buffer | undefined {
    if (this.isWhole) return chunk;
    const head = Buffer.concat([this.#head, chunk]);
    this.#head = head;
    const length = identLength(head, this.#isClients);
    if (length === undefined) return undefined;
    this.#head = Buffer.alloc(0);
    const start = head.lastIndexOf(NEWLINE, length - 2) + 1;
    this.#software = softwareOf(head.toString('latin1', start, length));
    return head;
  }
}

function softwareOf(line: string): string {
  return /^SSH-[^-\n]*-([^\r\n]*)\r?\n$/.exec(line)?.[1] ?? '';
}

function identStart(head: Buffer): number | undefined {
  if (head.toString('latin1', 0, PREFIX.length) === PREFIX) return 0;
  const before = head.indexOf(`\n${PREFIX}`);
  if ((before < 0 ? head.length : before) > LONGEST_GREETING) {
    throw violation('no SSH identification line');
  }
  return before < 0 ? undefined : before + 1;
}
