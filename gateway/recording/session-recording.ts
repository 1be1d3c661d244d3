import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { FindingKind } from '../../proto/gen/writ/gateway/v1/recording_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { encodeEvent } from './encode-event.ts';
import type { RecordingKey } from './gateway-keys.ts';
import type { RecordedEventInit, Recorder } from './recorder.ts';
import { MAXIMUM_EVENT_BYTES, NO_HASH, Segment } from './segment.ts';

export interface RecordingOptions {
  /** The session's own directory; made here, and refused if it is there already. */
  readonly directory: string;
  readonly sessionId: string;
  readonly key: RecordingKey;
  readonly clock: Clock;
  readonly observer: RecordingObserver;
}

export interface RecordingObserver {
  /** Bytes of an event that was written. */
  wrote(bytes: number): void;
  /** Something that a rule refused was recorded. Must not throw. */
  denied(what: DeniedThing, rule: string): void;
  /** The gateway noticed something that an auditor must know. Must not throw. */
  found(finding: AuditedFinding): void;
  /** A segment is sealed. Must not throw. */
  sealed(segment: { readonly number: number; readonly hash: Uint8Array }): void;
  /** The record can go on no more: the session has to end. Called once. */
  failed(fault: Fault): void;
}

/** What was shown unmasked: by a detector that only tells, or past a view. */
export interface AuditedFinding {
  readonly isUnmasked: boolean;
  /** Of the detector, or of the column. */
  readonly name: string;
  readonly count: bigint;
}

/** What a rule can refuse to a session. */
export type DeniedThing = 'statement' | 'channel';

/** Of a crash of this process, nothing older than this is lost, and never a statement. */
const HELD_MS = 100;
const MAXIMUM_HELD = 64;

/** The record of one session as it grows. Used by one session; all of it is synchronous. */
export class SessionRecording implements Recorder {
  readonly #options: RecordingOptions;
  #segment: Segment;
  #nextIndex = 0n;
  #lastHash: Uint8Array = NO_HASH;
  #state: 'open' | 'sealed' | Fault = 'open';
  /** Results on their way to the file. */
  #held: Uint8Array[] = [];
  #heldTimer: NodeJS.Timeout | undefined;

  private constructor(options: RecordingOptions) {
    this.#options = options;
    mkdirSync(options.directory, { mode: 0o700 });
    this.#segment = this.#openSegment(0);
  }

  /** @throws Fault RECORDING_UNWRITABLE */
  static open(options: RecordingOptions): SessionRecording {
    try {
      return new SessionRecording(options);
    } catch (error) {
      throw unwritable(error);
    }
  }

  write(event: RecordedEventInit): void {
    this.#requireOpen();
    try {
      const frame = encodeEvent({ index: this.#nextIndex, at: this.#options.clock.now(), event });
      if (frame.length > MAXIMUM_EVENT_BYTES) throw new Error(`an event of ${frame.length} bytes`);
      this.#nextIndex += 1n;
      this.#options.observer.wrote(frame.length);
      if (event.case === 'result' && this.#held.length < MAXIMUM_HELD) this.#hold(frame);
      else this.#append(frame);
    } catch (error) {
      throw this.#failed(error);
    }
    const denied = deniedIn(event);
    if (denied !== undefined) this.#options.observer.denied(denied.what, denied.rule);
    const finding = findingIn(event);
    if (finding !== undefined) this.#options.observer.found(finding);
  }

  sync(): void {
    this.#attempt(() => {
      this.#append();
      this.#segment.sync();
    });
  }

  /**
   * Seals the record; nothing can be written after it. A record that has failed stays without a seal.
   * @returns the last segment's hash; empty if the record has failed
   */
  seal(): Uint8Array {
    if (this.#state === 'open') {
      try {
        this.#attempt(() => {
          this.#append();
          this.#sealSegment();
        });
        clearTimeout(this.#heldTimer);
        this.#state = 'sealed';
      } catch {
        // `failed` has told the observer.
      }
    }
    return this.#state === 'sealed' ? this.#lastHash : new Uint8Array();
  }

  /** A statement's result follows its effect, so it may wait for the next statement to be written with. */
  #hold(frame: Uint8Array): void {
    this.#held.push(frame);
    this.#heldTimer ??= setTimeout(() => this.#release(), HELD_MS).unref();
  }

  /** One timer serves all results of its time: what is held when it ends is never older than it. */
  #release(): void {
    this.#heldTimer = undefined;
    if (this.#state !== 'open' || this.#held.length === 0) return;
    try {
      this.#attempt(() => this.#append());
    } catch {
      // `failed` has told the observer.
    }
  }

  /** Writes what is held, then these frames, in one go. */
  #append(...frames: readonly Uint8Array[]): void {
    const all = this.#held;
    for (const frame of frames) all.push(frame);
    if (all.length === 0) return;
    this.#held = [];
    if (this.#segment.hasRoomFor(all)) {
      this.#segment.append(...all);
      return;
    }
    for (const frame of all) {
      if (!this.#segment.hasRoomFor([frame])) this.#nextSegment();
      this.#segment.append(frame);
    }
  }

  #attempt(act: () => void): void {
    this.#requireOpen();
    try {
      act();
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #requireOpen(): void {
    if (this.#state === 'sealed') throw unwritable(new Error('the record is sealed'));
    if (this.#state !== 'open') throw this.#state;
  }

  #failed(error: unknown): Fault {
    const fault = unwritable(error);
    this.#state = fault;
    this.#abandon();
    this.#options.observer.failed(fault);
    return fault;
  }

  #nextSegment(): void {
    const number = this.#segment.number + 1;
    this.#sealSegment();
    this.#segment = this.#openSegment(number);
  }

  #sealSegment(): void {
    this.#lastHash = this.#segment.seal();
    this.#options.observer.sealed({ number: this.#segment.number, hash: this.#lastHash });
  }

  #openSegment(number: number): Segment {
    const { directory, sessionId, key } = this.#options;
    const path = join(directory, `${number}.seg`);
    return new Segment({ path, sessionId, number, previousHash: this.#lastHash, key });
  }

  #abandon(): void {
    clearTimeout(this.#heldTimer);
    this.#held = [];
    try {
      this.#segment.abandon();
    } catch {
      // The file is given up either way.
    }
  }
}

function deniedIn(event: RecordedEventInit): { what: DeniedThing; rule: string } | undefined {
  const rule =
    event.case === 'statement' || event.case === 'channelOpened' ? event.value.deniedBy : undefined;
  if (!rule) return undefined;
  return { what: event.case === 'statement' ? 'statement' : 'channel', rule };
}

function findingIn(event: RecordedEventInit): AuditedFinding | undefined {
  if (event.case !== 'finding') return undefined;
  const { kind, name = '', count = 0n } = event.value;
  if (kind !== FindingKind.SHOWN && kind !== FindingKind.UNMASKED) return undefined;
  return { isUnmasked: kind === FindingKind.UNMASKED, name, count };
}

function unwritable(cause: unknown): Fault {
  const message = 'the session cannot be recorded, so it cannot go on';
  return new Fault('RECORDING_UNWRITABLE', message, { cause });
}
