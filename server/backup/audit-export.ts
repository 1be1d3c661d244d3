/**
 * An export of the audit log, one `writ.audit.v1.SealedEvent` a line in JSON. It has to go on where the
 * log of a backup ends, link by link: so far nothing in it was changed, put in or left out. That its own
 * end is missing nobody can see in it.
 */
import { fromBinary, fromJsonString } from '@bufbuild/protobuf';
import {
  type Event,
  EventSchema,
  type SealedEvent,
  SealedEventSchema,
} from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { type ChainHead, nextHead } from '../../runtime/hash-chain.ts';

/** Of an event of at most 64 KiB in base64, and two hashes. */
const MAXIMUM_LINE_BYTES = 128 * 1024;

export interface ExportedEvent {
  readonly event: Event;
  readonly sealed: SealedEvent;
}

/**
 * The events after `head`, in order.
 * @param chunks untrusted
 * @param head of the log that the backup has
 * @throws Fault FAILED_PRECONDITION if it is broken, is of another log, or does not reach from before
 *   `head` to behind it
 */
export async function* readAuditExport(
  chunks: AsyncIterable<Uint8Array>,
  head: ChainHead,
): AsyncGenerator<ExportedEvent> {
  let last: ChainHead | undefined;
  for await (const exported of eventsOf(chunks)) {
    const { event, sealed } = exported;
    const before = { seq: event.seq - 1n, hash: sealed.previousHash };
    if (last === undefined && before.seq > head.seq)
      throw refused(`it begins with event ${event.seq}, and the backup ends with ${head.seq}`);
    last ??= sameLog(before, head);
    const { body, previousHash, hash } = sealed;
    last = sameLog(nextHead(last, { seq: event.seq, body, previousHash, hash }), head);
    if (last.seq > head.seq) yield exported;
  }
  if (last === undefined || last.seq < head.seq)
    throw refused(`it ends with event ${last?.seq ?? 0}, before the backup, which has ${head.seq}`);
}

/** Where both are as long they have to be the same. */
function sameLog(at: ChainHead, head: ChainHead): ChainHead {
  if (at.seq === head.seq && !Buffer.from(at.hash).equals(head.hash))
    throw refused(`event ${at.seq} is another than in the backup`);
  return at;
}

async function* eventsOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<ExportedEvent> {
  let number = 0;
  for await (const line of linesOf(chunks)) {
    number += 1;
    yield parsed(line, number);
  }
}

function parsed(line: string, number: number): ExportedEvent {
  try {
    const sealed = fromJsonString(SealedEventSchema, line);
    return { sealed, event: fromBinary(EventSchema, sealed.body) };
  } catch {
    throw refused(`line ${number} is no event`);
  }
}

async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    rest = Buffer.concat([rest, chunk]);
    let start = 0;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10, start)) {
      yield rest.toString('utf8', start, end);
      start = end + 1;
    }
    rest = rest.subarray(start);
    if (rest.length > MAXIMUM_LINE_BYTES) throw refused('a line is too long');
  }
  if (rest.length > 0) throw refused('its last line is cut short');
}

function refused(why: string): Fault {
  return new Fault('FAILED_PRECONDITION', `the audit export does not fit the backup: ${why}`);
}
