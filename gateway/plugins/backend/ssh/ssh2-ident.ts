import { violation } from './ssh2-messages.ts';

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

function identStart(head: Buffer): number | undefined {
  if (head.toString('latin1', 0, PREFIX.length) === PREFIX) return 0;
  const before = head.indexOf(`\n${PREFIX}`);
  if ((before < 0 ? head.length : before) > LONGEST_GREETING) {
    throw violation('no SSH identification line');
  }
  return before < 0 ? undefined : before + 1;
}
