/** One channel's output as asciicast v2, which terminal players show. Source: docs.asciinema.org, asciicast v2 */
import { StringDecoder } from 'node:string_decoder';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import type {
  ChannelOpened,
  ChannelOutput,
  RecordedEvent,
} from '../proto/gen/writ/gateway/v1/recording_pb.ts';
import { PlayableText } from './playable-text.ts';

const WITHOUT_TERMINAL = { columns: 80, rows: 24 };
/** A player makes room for all of it. */
const LARGEST_SIDE = 1000;

/** Whether a record keeps what such a channel wrote. */
export function isReplayable({ kind, deniedBy }: ChannelOpened): boolean {
  return deniedBy === '' && (kind === 'shell' || kind === 'exec');
}

/**
 * The cast of one channel, from a record's events in order. Its lines are ASCII, which no terminal minds,
 * and a terminal that plays them is made to draw and nothing else.
 */
export class Asciicast {
  readonly #channel: number;
  readonly #decoders = { out: new StringDecoder('utf8'), err: new StringDecoder('utf8') };
  /** Both outputs went to one terminal. */
  readonly #playable = new PlayableText();
  #title = '';
  #startMs: number | undefined;
  #hasTerminal = false;
  #seconds = 0;

  constructor(channel: number) {
    this.#channel = channel;
  }

  /** Whether the channel was there, and could be replayed. */
  get hasBegun(): boolean {
    return this.#startMs !== undefined;
  }

  lines(recorded: RecordedEvent): string[] {
    const { event } = recorded;
    if (event.case === 'opened') {
      this.#title = `${event.value.spiffeId} on ${event.value.backend}`;
    }
    if (!isOfChannel(event) || event.value.channel !== this.#channel) return [];
    const nowMs = recorded.at === undefined ? 0 : timestampDate(recorded.at).getTime();
    if (event.case === 'channelOpened') return this.#begin(event.value, nowMs);
    if (this.#startMs === undefined) return [];
    // A clock may be set back; a cast's may not.
    this.#seconds = Math.max(this.#seconds, (nowMs - this.#startMs) / 1000);
    switch (event.case) {
      case 'channelOutput':
        return this.#output(event.value);
      case 'channelResized':
        return [this.#line('r', sizeOf(event.value).join('x'))];
      case 'channelClosed':
        return this.#end(event.value.bytesOmitted);
    }
  }

  #begin(opened: ChannelOpened, nowMs: number): string[] {
    if (!isReplayable(opened)) return [];
    const { terminal, command } = opened;
    this.#startMs = nowMs;
    this.#hasTerminal = terminal !== undefined;
    const [width, height] = sizeOf(terminal ?? WITHOUT_TERMINAL);
    const header = {
      version: 2,
      ...{ width, height },
      timestamp: Math.floor(nowMs / 1000),
      title: this.#title,
      ...(command === '' ? {} : { command }),
      ...(terminal === undefined ? {} : { env: { TERM: terminal.term } }),
    };
    return [asciiJson(header)];
  }

  #output({ isStderr, data }: ChannelOutput): string[] {
    const decoder = isStderr ? this.#decoders.err : this.#decoders.out;
    return this.#text(decoder.write(Buffer.from(data)));
  }

  #end(omitted: bigint): string[] {
    const { out, err } = this.#decoders;
    const rest = [out, err].flatMap((decoder) => this.#text(decoder.end()));
    return omitted === 0n ? rest : [...rest, this.#line('m', `${omitted} bytes were not kept`)];
  }

  /** Without a terminal of its own it was the client's that began each line at the left. */
  #text(written: string): string[] {
    const text = this.#playable.add(written);
    if (text === '') return [];
    return [this.#line('o', this.#hasTerminal ? text : text.replaceAll('\n', '\r\n'))];
  }

  #line(kind: 'o' | 'r' | 'm', data: string): string {
    return asciiJson([this.#seconds, kind, data]);
  }
}

type ChannelEvent = Extract<
  RecordedEvent['event'],
  { case: 'channelOpened' | 'channelOutput' | 'channelResized' | 'channelClosed' }
>;

function isOfChannel(event: RecordedEvent['event']): event is ChannelEvent {
  return event.case?.startsWith('channel') ?? false;
}

/** Columns and rows; the client may have said anything. */
function sizeOf({ columns, rows }: { readonly columns: number; readonly rows: number }) {
  const side = (given: number, usual: number) => Math.min(given || usual, LARGEST_SIDE);
  return [side(columns, WITHOUT_TERMINAL.columns), side(rows, WITHOUT_TERMINAL.rows)] as const;
}

/** JSON that no terminal reads anything into: what is not printable ASCII is escaped. */
export function asciiJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
