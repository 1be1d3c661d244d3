import { fromBinary } from '@bufbuild/protobuf';
import { AuditService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { EventSchema, type SealedEvent } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { CHAIN_START, type ChainHead, nextHead as nextLinked } from '../../runtime/hash-chain.ts';
import type { Flags, Verb, VerbIo } from '../verb.ts';

export const auditVerify: Verb = {
  path: ['audit', 'verify'],
  positionals: [],
  summary: 'Recompute the hash chain of the whole audit log',
  options: { json: { type: 'boolean', default: false } },
  run,
};

async function run(flags: Flags, io: VerbIo): Promise<void> {
  let head = CHAIN_START;
  const events = io.admin(AuditService).tailEvents({ afterSeq: 0n }, { signal: io.signal });
  for await (const { event } of events) {
    if (event !== undefined) head = nextHead(head, event);
  }
  const hash = Buffer.from(head.hash).toString('hex');
  if (flags.json === true) io.out(JSON.stringify({ events: Number(head.seq), head: hash }));
  else io.out(`${head.seq} events, unbroken; head ${hash}`);
}

/**
 * The chain after one more event.
 * @throws Fault FAILED_PRECONDITION naming the first event that does not fit
 */
export function nextHead(head: ChainHead, event: SealedEvent): ChainHead {
  const { body, previousHash, hash } = event;
  return nextLinked(head, { seq: fromBinary(EventSchema, body).seq, body, previousHash, hash });
}
