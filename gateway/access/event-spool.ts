/**
 * Audit events on their way to the server, which takes them at least once by (writer, writer_seq). They
 * stay in files until the server has them, so that neither a cut stream nor a crash loses one, and are
 * bounded, so that a long cut fills no disk: a full spool refuses new sessions.
 *
 * A file is named after the writer_seq of its first event and holds one frame per event, so the newest
 * file, even empty, tells the next number after a restart. Nothing is sent before it is fsynced: a
 * number that the server has seen must never be given away again.
 */
import { mkdirSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { type Event, EventSchema } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { FrameWriter, readFrames } from '../../runtime/frame-file.ts';
import { Watched } from '../../runtime/watched.ts';

/** An event as its author gives it; the spool adds the time and the number. */
export type EventInit = Omit<
  MessageInitShape<typeof EventSchema>,
  '$typeName' | 'at' | 'writerSeq'
>;

export interface SpoolOptions {
  /** Created if it is missing. */
  readonly directory: string;
  readonly clock: Clock;
  readonly limits?: { readonly fileBytes: number; readonly totalBytes: number };
}

const LIMITS = { fileBytes: 256 * 1024, totalBytes: 16 * 1024 * 1024 };
const FRAME_LIMITS = { maximumFrameBytes: 32 * 1024 };
const FILE_NAME = /^\d{20}\.events$/;

export class EventSpool implements Disposable {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #limits: { readonly fileBytes: number; readonly totalBytes: number };
  /** Oldest first; the last is the one that is written. */
  #files: { readonly first: bigint; bytes: number }[] = [];
  #writer: FrameWriter;
  #pending: Event[] = [];
  #unsynced = false;
  /** Whether a write has failed, on a full disk say: the file is opened anew before the next. */
  #isBroken = false;
  readonly #head: Watched<bigint>;

  private constructor(options: SpoolOptions) {
    this.#directory = options.directory;
    this.#clock = options.clock;
    this.#limits = options.limits ?? LIMITS;
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
    const names = readdirSync(options.directory).filter((name) => FILE_NAME.test(name));
    this.#files = names.sort().map((name) => ({ first: BigInt(name.slice(0, 20)), bytes: 0 }));
    for (const file of this.#files) {
      for (const frame of readFrames(this.#path(file.first), FRAME_LIMITS)) {
        this.#pending.push(fromBinary(EventSchema, frame));
        file.bytes += frame.length;
      }
    }
    const newest = this.#files.at(-1)?.first ?? 1n;
    if (this.#files.length === 0) this.#files.push({ first: newest, bytes: 0 });
    this.#writer = this.#openFile(newest);
    this.#head = new Watched(this.#pending.at(-1)?.writerSeq ?? newest - 1n);
  }

  /** @throws Fault STATE_UNUSABLE */
  static open(options: SpoolOptions): EventSpool {
    try {
      return new EventSpool(options);
    } catch (error) {
      const message = `the event spool ${options.directory} cannot be read or written`;
      throw new Fault('STATE_UNUSABLE', message, { cause: error });
    }
  }

  /** The number of the newest event now, and after each change; ends when `signal` aborts. */
  changes(signal: AbortSignal): AsyncIterable<bigint> {
    return this.#head.values(signal);
  }

  get pendingCount(): number {
    return this.#pending.length;
  }

  /** @throws Fault AUDIT_UNWRITABLE if the next event would not be kept */
  requireRoom(): void {
    if (this.#isBroken) this.#mend();
    const bytes = this.#files.reduce((sum, file) => sum + file.bytes, 0);
    if (bytes < this.#limits.totalBytes) return;
    throw new Fault('AUDIT_UNWRITABLE', 'the gateway has too many events that its server lacks');
  }

  /**
   * Gives the event its number and time and hands it to the operating system.
   * @throws Fault AUDIT_UNWRITABLE
   */
  append(init: EventInit): void {
    this.requireRoom();
    const writerSeq = this.#head.value + 1n;
    const at = timestampFromDate(this.#clock.now());
    this.#write(create(EventSchema, { ...init, at, writerSeq }));
    this.#head.set(writerSeq);
  }

  /** Events after `seq`, oldest first, at most `count`; they survive a crash from now on. */
  after(seq: bigint, count: number): readonly Event[] {
    this.#sync();
    const start = this.#pending.findIndex((event) => event.writerSeq > seq);
    return start < 0 ? [] : this.#pending.slice(start, start + count);
  }

  /**
   * The server has all up to `seq`. If that is more than was ever written, this directory has lost its
   * past: what is pending gets new numbers, or the server would take it for what it has.
   * @returns whether numbers were given anew
   */
  accepted(seq: bigint): boolean {
    const isRenumbered = seq > this.#head.value;
    if (isRenumbered) this.#renumber(seq);
    else this.#drop(seq);
    return isRenumbered;
  }

  [Symbol.dispose](): void {
    try {
      this.#sync();
    } finally {
      this.#writer.close();
    }
  }

  #sync(): void {
    if (this.#isBroken) this.#mend();
    if (!this.#unsynced) return;
    try {
      this.#writer.sync();
    } catch (error) {
      this.#isBroken = true;
      throw unwritable(error);
    }
    this.#unsynced = false;
  }

  /** Drops the frame that was written in part, and goes on behind the last whole one. */
  #mend(): void {
    const newest = this.#files.at(-1)?.first;
    if (newest === undefined) throw new Error('the spool has no file');
    try {
      this.#writer.close();
      this.#writer = this.#openFile(newest);
    } catch (error) {
      throw unwritable(error);
    }
    this.#isBroken = false;
  }

  #write(event: Event): void {
    const bytes = toBinary(EventSchema, event);
    try {
      if ((this.#files.at(-1)?.bytes ?? 0) >= this.#limits.fileBytes) this.#roll(event.writerSeq);
      this.#writer.append(bytes);
    } catch (error) {
      this.#isBroken = true;
      throw unwritable(error);
    }
    const file = this.#files.at(-1);
    if (file !== undefined) file.bytes += bytes.length;
    this.#unsynced = true;
    this.#pending.push(event);
  }

  #roll(first: bigint): void {
    this.#writer.sync();
    this.#writer.close();
    this.#writer = this.#openFile(first);
    this.#files.push({ first, bytes: 0 });
  }

  #drop(seq: bigint): void {
    const left = this.#pending.findIndex((event) => event.writerSeq > seq);
    this.#pending = left < 0 ? [] : this.#pending.slice(left);
    this.#deleteFiles((next) => next <= seq + 1n);
  }

  #renumber(accepted: bigint): void {
    const events = this.#pending;
    this.#pending = [];
    this.#roll(accepted + 1n);
    this.#deleteFiles(() => true);
    this.#head.set(accepted);
    for (const event of events) {
      const writerSeq = this.#head.value + 1n;
      this.#write({ ...event, writerSeq });
      this.#head.set(writerSeq);
    }
  }

  /** Deletes files but the newest, oldest first, while the file after it begins as `isDone` says. */
  #deleteFiles(isDone: (nextFirst: bigint) => boolean): void {
    for (;;) {
      const [oldest, next] = this.#files;
      if (oldest === undefined || next === undefined || !isDone(next.first)) return;
      unlinkSync(this.#path(oldest.first));
      this.#files.shift();
    }
  }

  #openFile(first: bigint): FrameWriter {
    return FrameWriter.open(this.#path(first), FRAME_LIMITS);
  }

  #path(first: bigint): string {
    return join(this.#directory, `${String(first).padStart(20, '0')}.events`);
  }
}

function unwritable(cause: unknown): Fault {
  return new Fault('AUDIT_UNWRITABLE', 'the event could not be written', { cause });
}
