import { toJson } from '@bufbuild/protobuf';
import { type ReplayVerdict, SessionService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import {
  type ChannelOpened,
  type RecordedEvent,
  RecordedEventSchema,
} from '../../proto/gen/writ/gateway/v1/recording_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { Asciicast, asciiJson, isReplayable } from '../asciicast.ts';
import { printable } from '../table.ts';
import { Transcript } from '../transcript.ts';
import { type Flags, textFlag, type Verb, type VerbIo } from '../verb.ts';

export const sessionReplay: Verb = {
  path: ['session', 'replay'],
  positionals: ['SESSION'],
  summary: "Verify a session's record and show what was done in it",
  options: {
    json: { type: 'boolean', default: false },
    asciicast: { type: 'boolean', default: false },
    channel: { type: 'string' },
  },
  run,
};

const NUMBER = /^[1-9][0-9]{0,8}$/;
const LISTED_CHANNELS = 20;
const SHOWN_CHARACTERS = 60;

async function run(flags: Flags, io: VerbIo, [sessionId = '']: readonly string[]): Promise<void> {
  const channel = channelFlag(flags);
  if (flags.asciicast === true) {
    await replayCast(sessionId, channel ?? (await onlyChannel(sessionId, io)), io);
  } else if (flags.json === true) {
    await replay(sessionId, io, (event) => io.out(jsonOf(event)));
  } else {
    await replayTranscript(sessionId, io);
  }
}

/** @throws Fault USAGE */
function channelFlag(flags: Flags): number | undefined {
  const text = textFlag(flags, 'channel');
  if (flags.asciicast === true && flags.json === true) {
    throw new Fault('USAGE', 'session replay: --asciicast or --json, not both');
  }
  if (text === undefined) return undefined;
  if (flags.asciicast !== true) {
    throw new Fault('USAGE', 'session replay: --channel goes with --asciicast');
  }
  if (!NUMBER.test(text)) throw new Fault('USAGE', 'session replay: --channel is a number from 1');
  return Number(text);
}

async function replayTranscript(sessionId: string, io: VerbIo): Promise<void> {
  const transcript = new Transcript();
  const show = (lines: readonly string[]) => {
    for (const line of lines) io.out(line);
  };
  const verdict = await eventsOf(sessionId, io, (event) => show(transcript.lines(event)));
  show(transcript.end());
  conclude(verdict, io);
}

async function replayCast(sessionId: string, channel: number, io: VerbIo): Promise<void> {
  const cast = new Asciicast(channel);
  await replay(sessionId, io, (event) => {
    for (const line of cast.lines(event)) io.out(line);
  });
  if (cast.hasBegun) return;
  throw new Fault('NOT_FOUND', `the session has no channel ${channel} whose output is kept`);
}

/** The one that there is to replay. It takes a reading of its own: records may be long. */
async function onlyChannel(sessionId: string, io: VerbIo): Promise<number> {
  const channels: ChannelOpened[] = [];
  await eventsOf(sessionId, io, ({ event }) => {
    if (event.case === 'channelOpened' && isReplayable(event.value)) channels.push(event.value);
  });
  const [only, ...others] = channels;
  if (only === undefined) {
    throw new Fault('NOT_FOUND', 'the session has no channel whose output is kept');
  }
  if (others.length === 0) return only.channel;
  const listed = channels.slice(0, LISTED_CHANNELS).map(channelText).join('\n');
  const more = channels.length - LISTED_CHANNELS;
  const rest = more > 0 ? `\n  and ${more} more` : '';
  throw new Fault(
    'USAGE',
    `the session has several channels: name one by --channel\n${listed}${rest}`,
  );
}

function channelText({ channel, kind, command }: ChannelOpened): string {
  return `  ${channel}  ${kind} ${printable(command.slice(0, SHOWN_CHARACTERS))}`.trimEnd();
}

async function replay(
  sessionId: string,
  io: VerbIo,
  show: (event: RecordedEvent) => void,
): Promise<void> {
  conclude(await eventsOf(sessionId, io, show), io);
}

async function eventsOf(
  sessionId: string,
  io: VerbIo,
  take: (event: RecordedEvent) => void,
): Promise<ReplayVerdict | undefined> {
  let verdict: ReplayVerdict | undefined;
  const messages = io.admin(SessionService).replaySession({ sessionId }, { signal: io.signal });
  for await (const { message } of messages) {
    if (message.case === 'event') take(message.value);
    if (message.case === 'verdict') verdict = message.value;
  }
  return verdict;
}

function jsonOf(event: RecordedEvent): string {
  return asciiJson(toJson(RecordedEventSchema, event, { useProtoFieldName: true }));
}

/** A reading without a verdict proves nothing, so it fails too. */
function conclude(verdict: ReplayVerdict | undefined, io: VerbIo): void {
  const { state, detail } = verdict ?? { state: 'broken', detail: 'the server gave no verdict' };
  io.err(printable(`record ${state}${detail === '' ? '' : `: ${detail}`}`));
  if (state === 'broken') throw new Fault('FAILED_PRECONDITION', 'the record does not verify');
}
