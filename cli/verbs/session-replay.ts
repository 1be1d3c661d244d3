import { toJson } from '@bufbuild/protobuf';
import { type ReplayVerdict, SessionService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import {
  type RecordedEvent,
  RecordedEventSchema,
} from '../../proto/gen/writ/gateway/v1/recording_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { transcriptLines } from '../transcript.ts';
import type { Flags, Verb, VerbIo } from '../verb.ts';

export const sessionReplay: Verb = {
  path: ['session', 'replay'],
  positionals: ['SESSION'],
  summary: "Verify a session's record and show what was done in it",
  options: { json: { type: 'boolean', default: false } },
  run,
};

async function run(flags: Flags, io: VerbIo, [sessionId = '']: readonly string[]): Promise<void> {
  const replay = io.admin(SessionService).replaySession({ sessionId }, { signal: io.signal });
  for await (const { message } of replay) {
    if (message.case === 'event') show(message.value, flags.json === true, io);
    if (message.case === 'verdict') conclude(message.value, io);
  }
}

function show(event: RecordedEvent, json: boolean, io: VerbIo): void {
  const lines = json
    ? [JSON.stringify(toJson(RecordedEventSchema, event, { useProtoFieldName: true }))]
    : transcriptLines(event);
  for (const line of lines) io.out(line);
}

function conclude({ state, detail }: ReplayVerdict, io: VerbIo): void {
  io.err(`record ${state}${detail === '' ? '' : `: ${detail}`}`);
  if (state === 'broken') throw new Fault('FAILED_PRECONDITION', 'the record does not verify');
}
