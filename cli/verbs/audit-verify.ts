import { createHash } from 'node:crypto';
import { fromBinary } from '@bufbuild/protobuf';
import { AuditService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { EventSchema, type SealedEvent } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Flags, Verb, VerbIo } from '../verb.ts';

export const auditVerify: Verb = {
  path: ['audit', 'verify'],
  positionals: [],
  summary: 'Recompute the hash chain of the whole audit log',
  options: { json: { type: 'boolean', default: false } },
  run,
};

async function run(flags: Flags, io: VerbIo): Promise<void> {
  let head = { seq: 0n, hash: Buffer.alloc(32) };
  const events = io.admin(AuditService).tailEvents({ afterSeq: 0n }, { signal: io.signal });
  for await (const { event } of events) {
    if (event !== undefined) head = nextHead(head, event);
  }
  const hash = head.hash.toString('hex');
  if (flags.json === true) io.out(JSON.stringify({ events: Number(head.seq), head: hash }));
  else io.out(`${head.seq} events, unbroken; head ${hash}`);
}

interface Head {
  readonly seq: bigint;
  readonly hash: Buffer;
}

/**
 * The chain after one more event.
 * @throws Fault FAILED_PRECONDITION naming the first event that does not fit
 */
export function nextHead(
  head: Head,
  event: SealedEvent,
): { seq: bigint; hash: Buffer<ArrayBuffer> } {
  const seq = head.seq + 1n;
  const broken = (what: string) =>
    new Fault('FAILED_PRECONDITION', `the audit log is broken at event ${seq}: ${what}`);
  const named = fromBinary(EventSchema, event.body).seq;
  if (named !== seq) throw broken(`event ${named} stands in its place`);
  if (!head.hash.equals(event.previousHash)) throw broken('its previous hash is another');
  const leaf = sha256(Buffer.of(0), event.body);
  const hash = sha256(Buffer.of(1), head.hash, leaf);
  if (!hash.equals(event.hash)) throw broken('its hash is not that of its content');
  return { seq, hash };
}

function sha256(...parts: readonly Uint8Array[]): Buffer<ArrayBuffer> {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return Buffer.from(hash.digest());
}
