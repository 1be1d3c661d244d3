import { createHash, type Hash } from 'node:crypto';
import { printable } from '../../../access/resolve-grant.ts';
import type { Recorder } from '../../../recording/recorder.ts';
import type { StartVerdict } from './channel-rights.ts';
import type { ExitStatus, PtyRequest, StartRequest, WindowSize } from './ssh2-session-values.ts';

/** Which part of what the target writes is kept. */
export type Kept = Extract<StartVerdict, { allowed: true }>['kept'];

export interface ChannelOpening {
  /** Counts the session's channels, from 1. */
  readonly number: number;
  readonly request: Pick<StartRequest, 'command'>;
  readonly terminal: PtyRequest | undefined;
  readonly verdict: StartVerdict;
}

/** Of a command without a terminal, per channel; what follows is counted and hashed. */
export const FIRST_BYTES = 1024 * 1024;

const SIGNAL_CHARACTERS = 32;
const TERM_CHARACTERS = 64;
const LARGEST_SIZE = 0xffff;

/** One channel's part of its session's record. What it cannot write must not happen. */
export class ChannelRecord {
  readonly #recorder: Recorder;
  readonly #channel: number;
  readonly #kept: Kept;
  #room: number;
  #bytesUp = 0;
  #bytesDown = 0;
  #bytesOmitted = 0;
  #omitted: Hash | undefined;
  #isClosed = false;

  private constructor(recorder: Recorder, channel: number, kept: Kept) {
    this.#recorder = recorder;
    this.#channel = channel;
    this.#kept = kept;
    this.#room = kept === 'all' ? Number.POSITIVE_INFINITY : kept === 'first' ? FIRST_BYTES : 0;
  }

  /** Records what the client asked for, and whether it was refused. @throws Fault RECORDING_UNWRITABLE */
  static open(recorder: Recorder, opening: ChannelOpening): ChannelRecord {
    const { number, request, terminal, verdict } = opening;
    recorder.write({
      case: 'channelOpened',
      value: {
        channel: number,
        kind: verdict.kind,
        command: request.command,
        ...(terminal === undefined ? {} : { terminal: terminalOf(terminal) }),
        deniedBy: verdict.allowed ? '' : verdict.rule,
      },
    });
    return new ChannelRecord(recorder, number, verdict.allowed ? verdict.kept : 'nothing');
  }

  /** Counts what the client sends; its content is not kept. */
  sent(bytes: number): void {
    this.#bytesUp += bytes;
  }

  /** Called before the client sees it. @throws Fault RECORDING_UNWRITABLE */
  received(data: Uint8Array, isStderr: boolean): void {
    this.#bytesDown += data.length;
    const kept = data.length <= this.#room ? data : data.subarray(0, this.#room);
    if (kept.length > 0) {
      this.#room -= kept.length;
      const value = { channel: this.#channel, isStderr, data: kept };
      this.#recorder.write({ case: 'channelOutput', value });
    }
    if (kept.length < data.length) this.#omit(data.subarray(kept.length));
  }

  /** @throws Fault RECORDING_UNWRITABLE */
  resized({ columns, rows }: WindowSize): void {
    const value = { channel: this.#channel, columns: bounded(columns), rows: bounded(rows) };
    this.#recorder.write({ case: 'channelResized', value });
  }

  /** The first call counts. @throws Fault RECORDING_UNWRITABLE */
  closed(status: ExitStatus): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#recorder.write({
      case: 'channelClosed',
      value: {
        channel: this.#channel,
        ...exitOf(status),
        bytesUp: BigInt(this.#bytesUp),
        bytesDown: BigInt(this.#bytesDown),
        bytesOmitted: BigInt(this.#bytesOmitted),
        ...(this.#omitted === undefined ? {} : { omittedSha256: this.#omitted.digest() }),
      },
    });
  }

  #omit(data: Uint8Array): void {
    this.#bytesOmitted += data.length;
    // A transfer is counted alone: hashing it would take as long as moving it.
    if (this.#kept === 'nothing') return;
    this.#omitted ??= createHash('sha256');
    this.#omitted.update(data);
  }
}

function terminalOf({ term, columns, rows }: PtyRequest) {
  return {
    term: printable(term, TERM_CHARACTERS),
    columns: bounded(columns),
    rows: bounded(rows),
  };
}

function exitOf(status: ExitStatus): { exitStatus?: number; exitSignal?: string } {
  if (status === undefined) return {};
  if ('code' in status) return { exitStatus: status.code >>> 0 };
  return { exitSignal: printable(status.signal, SIGNAL_CHARACTERS) };
}

function bounded(size: number): number {
  return Math.min(size, LARGEST_SIZE);
}
