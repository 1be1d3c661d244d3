import { fromBinary, toJson } from '@bufbuild/protobuf';
import { AuditService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { type Event, EventSchema, Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { printable } from '../table.ts';
import { isoTime } from '../time.ts';
import { type Flags, textFlag, type Verb, type VerbIo } from '../verb.ts';

const OUTCOMES: Readonly<Record<number, string>> = {
  [Outcome.SUCCESS]: 'ok',
  [Outcome.FAILURE]: 'failed',
  [Outcome.DENIED]: 'denied',
};

export const auditTail: Verb = {
  path: ['audit', 'tail'],
  positionals: [],
  summary: 'Show the last events of the audit log',
  options: {
    last: { type: 'string', default: '20' },
    follow: { type: 'boolean', short: 'f', default: false },
    json: { type: 'boolean', default: false },
  },
  run,
};

async function run(flags: Flags, io: VerbIo): Promise<void> {
  const last = Number(textFlag(flags, 'last'));
  if (!Number.isInteger(last) || last < 1 || last > 10_000) {
    throw new Fault('USAGE', '--last: write a number from 1 to 10000');
  }
  const request = { last, follow: flags.follow === true };
  for await (const { event } of io.admin(AuditService).tailEvents(request, { signal: io.signal })) {
    if (event === undefined) continue;
    const decoded = fromBinary(EventSchema, event.body);
    const json = () => JSON.stringify(toJson(EventSchema, decoded, { useProtoFieldName: true }));
    io.out(flags.json === true ? json() : eventLine(decoded));
  }
}

function eventLine(event: Event): string {
  const what: [string, string][] = [
    ['spiffe_id', event.spiffeId],
    ['session', event.sessionId],
    ['grant', event.grant],
    ['backend', event.backend],
    ['entry', event.entryId],
    ['agent', event.agentId],
    ['reason', event.reason],
    ...Object.entries(event.attributes),
  ];
  const shown = what.filter(([, value]) => value !== '').map(([name, value]) => `${name}=${value}`);
  const outcome = OUTCOMES[event.outcome] ?? '?';
  return printable(`${event.seq} ${isoTime(event.at)} ${event.type} ${outcome} ${shown.join(' ')}`);
}
