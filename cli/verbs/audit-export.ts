import { toJsonString } from '@bufbuild/protobuf';
import { AuditService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { SealedEventSchema } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { CHAIN_START, type ChainHead } from '../../runtime/hash-chain.ts';
import type { Flags, Verb, VerbIo } from '../verb.ts';
import { nextHead } from './audit-verify.ts';

export const auditExport: Verb = {
  path: ['audit', 'export'],
  positionals: [],
  summary: 'Print the audit log as it is hashed, an event a line, for writ server restore',
  options: { follow: { type: 'boolean', short: 'f', default: false } },
  run,
};

/** The events are verified on their way: what is kept is whole. */
async function run(flags: Flags, io: VerbIo): Promise<void> {
  let head: ChainHead = CHAIN_START;
  const request = { afterSeq: 0n, follow: flags.follow === true };
  for await (const { event } of io.admin(AuditService).tailEvents(request, { signal: io.signal })) {
    if (event === undefined) continue;
    head = nextHead(head, event);
    io.out(toJsonString(SealedEventSchema, event, { useProtoFieldName: true }));
  }
  io.err(`${head.seq} events, head ${Buffer.from(head.hash).toString('hex')}`);
}
