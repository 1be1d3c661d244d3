/**
 * What identities have used of grants today, kept in the gateway's state directory: one small file for
 * each identity and grant, written over in place by a single write, so that a killed gateway forgets
 * nothing. A file that cannot be read bars its grant: it might hide that the budget is used up.
 *
 * The processes of one gateway each write a slot of their own in it and read the others'. Who has written
 * its use reads theirs after that: of two that come to a limit at once, one at least sees the other.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';

export const SPENDABLE = ['rows', 'bytes', 'statements', 'milliseconds'] as const;
export type Spendable = (typeof SPENDABLE)[number];

const DAY_MS = 24 * 3600 * 1000;
const MAGIC = 0x57_42_31_0a;
/** Magic, day since 1970, the counts as uint64, CRC-32 of all before it; big-endian. Zeros: nothing yet. */
const SLOT_BYTES = 8 + SPENDABLE.length * 8 + 4;
export const MOST_SLOTS = 256;
/** Never truncates: what is there stays until the new counts are. */
const OPEN_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
const FILE_NAME = /^[0-9a-f]{32}\.use$/;
/** How often a file is read that another process may be writing. */
const READINGS = 5;

/** Which of the processes that share a directory this is. */
export interface Slot {
  readonly index: number;
  readonly count: number;
}

const ONLY: Slot = { index: 0, count: 1 };

export interface DayUsesOptions {
  /** Created if it is missing. */
  readonly directory: string;
  readonly clock: Clock;
  /** That of the only process unless told. */
  readonly slot?: Slot;
}

export class DayUses implements Disposable {
  readonly #options: DayUsesOptions;
  readonly #uses = new Map<string, DayUse>();

  constructor(options: DayUsesOptions) {
    this.#options = options;
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
  }

  /** Before any process of the gateway uses the directory: what of it is of days before. */
  static removeOld({ directory, clock }: Omit<DayUsesOptions, 'slot'>): void {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const today = dayOf(clock);
    for (const name of readdirSync(directory)) {
      if (!FILE_NAME.test(name)) continue;
      const file = join(directory, name);
      const slots = slotsOf(file);
      if (slots?.every((slot) => slot === undefined || slot.day < today)) unlinkSync(file);
    }
  }

  /** @throws Fault UNAVAILABLE if what was used cannot be read */
  of(identity: string, grant: string): DayUse {
    const name = createHash('sha256').update(`${identity}\0${grant}`).digest('hex').slice(0, 32);
    const known = this.#uses.get(name);
    if (known !== undefined) return known;
    const { directory, clock, slot = ONLY } = this.#options;
    const use = new DayUse(join(directory, `${name}.use`), { clock, slot });
    this.#uses.set(name, use);
    return use;
  }

  [Symbol.dispose](): void {
    for (const use of this.#uses.values()) use.close();
  }
}

/** The use of one identity under one grant. */
export class DayUse {
  readonly #file: string;
  readonly #clock: Clock;
  readonly #slot: Slot;
  /** Of this process. */
  readonly #counts: Record<Spendable, number>;
  /** Of all others, as last read. */
  #others: Readonly<Record<Spendable, number>> = nothing();
  #day: number;
  #isSaved = true;
  #descriptor: number | undefined;

  /** @throws Fault UNAVAILABLE */
  constructor(file: string, { clock, slot }: { readonly clock: Clock; readonly slot: Slot }) {
    this.#file = file;
    this.#clock = clock;
    this.#slot = slot;
    const slots = this.#read();
    const own = slots[slot.index];
    this.#day = Math.max(own?.day ?? dayOf(clock), ...slots.map((one) => one?.day ?? 0));
    this.#counts = own?.day === this.#day ? { ...own.counts } : nothing();
    this.#take(slots);
  }

  /** Whether other processes spend of it too. */
  get isShared(): boolean {
    return this.#slot.count > 1;
  }

  /** By all processes, as far as `refresh` and `save` have read it. */
  used(what: Spendable): number {
    this.#turn();
    return this.#counts[what] + this.#others[what];
  }

  /** @returns what is used now */
  add(what: Spendable, count: number): number {
    this.#turn();
    if (count > 0) this.#isSaved = false;
    this.#counts[what] += count;
    return this.#counts[what] + this.#others[what];
  }

  /** Reads what other processes have used. @throws Fault UNAVAILABLE */
  refresh(): void {
    if (this.isShared) this.#take(this.#read());
  }

  /**
   * Hands it to the operating system, and then reads what other processes have used.
   * @throws Fault UNAVAILABLE
   */
  save(): void {
    if (this.#isSaved) return;
    try {
      const bytes = encodeSlot(this.#day, this.#counts);
      writeSync(this.#open(), bytes, 0, SLOT_BYTES, this.#slot.index * SLOT_BYTES);
    } catch (cause) {
      throw new Fault('UNAVAILABLE', 'the use of the day cannot be kept', { cause });
    }
    this.#isSaved = true;
    this.refresh();
  }

  /** The next `save` opens its file again. */
  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #open(): number {
    this.#descriptor ??= openSync(this.#file, OPEN_FLAGS, 0o600);
    return this.#descriptor;
  }

  #read(): readonly (SlotUse | undefined)[] {
    for (let reading = 0; reading < READINGS; reading += 1) {
      const slots = readSlots(this.#bytes());
      if (slots !== undefined) return slots;
      if (!this.isShared) break;
    }
    throw unreadable();
  }

  #bytes(): Buffer {
    try {
      if (this.#descriptor === undefined) return readFileSync(this.#file);
      const bytes = Buffer.alloc((MOST_SLOTS + 1) * SLOT_BYTES);
      return bytes.subarray(0, readSync(this.#descriptor, bytes, 0, bytes.length, 0));
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
      throw unreadable(cause);
    }
  }

  /** A later day of another process's is this one's too. */
  #take(slots: readonly (SlotUse | undefined)[]): void {
    const others = slots.map((slot, index) => (index === this.#slot.index ? undefined : slot));
    this.#begin(Math.max(this.#day, ...others.map((slot) => slot?.day ?? 0)));
    const sum = nothing();
    for (const slot of others) {
      if (slot?.day !== this.#day) continue;
      for (const what of SPENDABLE) sum[what] += slot.counts[what];
    }
    this.#others = sum;
  }

  /** A clock that was set back gives no new day. */
  #turn(): void {
    this.#begin(dayOf(this.#clock));
  }

  #begin(day: number): void {
    if (day <= this.#day) return;
    this.#day = day;
    Object.assign(this.#counts, nothing());
    this.#others = nothing();
    this.#isSaved = false;
  }
}

function dayOf(clock: Clock): number {
  return Math.floor(clock.now().getTime() / DAY_MS);
}

function nothing(): Record<Spendable, number> {
  return { rows: 0, bytes: 0, statements: 0, milliseconds: 0 };
}

function encodeSlot(day: number, counts: Readonly<Record<Spendable, number>>): Buffer {
  const bytes = Buffer.alloc(SLOT_BYTES);
  bytes.writeUInt32BE(MAGIC, 0);
  bytes.writeUInt32BE(day, 4);
  for (const [index, what] of SPENDABLE.entries()) {
    bytes.writeBigUInt64BE(BigInt(counts[what]), 8 + index * 8);
  }
  bytes.writeUInt32BE(crc32(bytes.subarray(0, SLOT_BYTES - 4)), SLOT_BYTES - 4);
  return bytes;
}

type SlotUse = { readonly day: number; readonly counts: Record<Spendable, number> };

/** @returns undefined if it cannot be read */
function slotsOf(file: string): readonly (SlotUse | undefined)[] | undefined {
  try {
    return readSlots(readFileSync(file));
  } catch {
    return undefined;
  }
}

/** @returns undefined if it is no such file */
function readSlots(bytes: Buffer): readonly (SlotUse | undefined)[] | undefined {
  const count = bytes.length / SLOT_BYTES;
  if (!Number.isInteger(count) || count > MOST_SLOTS) return undefined;
  const slots: (SlotUse | undefined)[] = [];
  for (let index = 0; index < count; index += 1) {
    const slot = readSlot(bytes.subarray(index * SLOT_BYTES, (index + 1) * SLOT_BYTES));
    if (slot === 'damaged') return undefined;
    slots.push(slot);
  }
  return slots;
}

function readSlot(bytes: Buffer): SlotUse | 'damaged' | undefined {
  if (bytes.every((byte) => byte === 0)) return undefined;
  const isWhole =
    bytes.readUInt32BE(0) === MAGIC &&
    bytes.readUInt32BE(SLOT_BYTES - 4) === crc32(bytes.subarray(0, SLOT_BYTES - 4));
  if (!isWhole) return 'damaged';
  const counts = nothing();
  for (const [index, what] of SPENDABLE.entries()) {
    counts[what] = Number(bytes.readBigUInt64BE(8 + index * 8));
  }
  return { day: bytes.readUInt32BE(4), counts };
}

function unreadable(cause?: unknown): Fault {
  const message = "what this grant's day has used cannot be read: tell the operator";
  return new Fault('UNAVAILABLE', message, { cause });
}
