/** The hash chain of the audit log, as `writ.audit.v1.SealedEvent` has it. */
import { createHash } from 'node:crypto';
import { Fault } from './fault.ts';

/** Where a chain ends. */
export interface ChainHead {
  readonly seq: bigint;
  readonly hash: Uint8Array;
}

/** One event of it, as somebody else gave it. */
export interface ChainLink {
  /** What its body says it is. */
  readonly seq: bigint;
  readonly body: Uint8Array;
  readonly previousHash: Uint8Array;
  readonly hash: Uint8Array;
}

/** Before the first event. */
export const CHAIN_START: ChainHead = { seq: 0n, hash: new Uint8Array(32) };

/** SHA-256 of 0 and the body: what an event adds to the chain. */
export function leafHash(body: Uint8Array): Uint8Array {
  return sha256(Buffer.of(0), body);
}

/**
 * The chain after one more event.
 * @throws Fault FAILED_PRECONDITION naming the first event that does not fit
 */
export function nextHead(head: ChainHead, link: ChainLink): ChainHead {
  const seq = head.seq + 1n;
  const broken = (what: string) =>
    new Fault('FAILED_PRECONDITION', `the audit log is broken at event ${seq}: ${what}`);
  if (link.seq !== seq) throw broken(`event ${link.seq} stands in its place`);
  if (!Buffer.from(head.hash).equals(link.previousHash))
    throw broken('its previous hash is another');
  const hash = sha256(Buffer.of(1), head.hash, leafHash(link.body));
  if (!Buffer.from(hash).equals(link.hash)) throw broken('its hash is not that of its content');
  return { seq, hash };
}

function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}
