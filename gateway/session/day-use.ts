/**
 * What identities have used of grants today, kept in the gateway's state directory: one small file for
 * each identity and grant, written over in place by a single write, so that a killed gateway forgets
 * nothing. A file that cannot be read bars its grant: it might hide that the budget is used up.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
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
/** Magic, day since 1970, the counts as uint64, CRC-32 of all before it; big-endian. */
const FILE_BYTES = 8 + SPENDABLE.length * 8 + 4;
/** Never truncates: what is there stays until the new counts are. */
const OPEN_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
const FILE_NAME = /^[0-9a-f]{32}\.use$/;

export class DayUses implements Disposable {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #uses = new Map<string, DayUse>();

  /** @param options.directory created if it is missing */
  constructor(options: { readonly directory: string; readonly clock: Clock }) {
    this.#directory = options.directory;
    this.#clock = options.clock;
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
    this.#removeOld();
  }

  /** @throws Fault UNAVAILABLE if what was used cannot be read */
  of(identity: string, grant: string): DayUse {
    const name = createHash('sha256').update(`${identity}\0${grant}`).digest('hex').slice(0, 32);
    const known = this.#uses.get(name);
    if (known !== undefined) return known;
    const use = new DayUse(join(this.#directory, `${name}.use`), this.#clock);
    this.#uses.set(name, use);
    return use;
  }

  [Symbol.dispose](): void {
    for (const use of this.#uses.values()) use.close();
  }

  #removeOld(): void {
    const today = dayOf(this.#clock);
    for (const name of readdirSync(this.#directory)) {
      if (!FILE_NAME.test(name)) continue;
      const file = join(this.#directory, name);
      const kept = readUse(file);
      if (kept !== undefined && kept !== 'unreadable' && kept.day < today) unlinkSync(file);
    }
  }
}

/** The use of one identity under one grant. */
export class DayUse {
  readonly #file: string;
  readonly #clock: Clock;
  readonly #counts: Record<Spendable, number>;
  #day: number;
  #isSaved = true;
  #descriptor: number | undefined;

  /** @throws Fault UNAVAILABLE */
  constructor(file: string, clock: Clock) {
    const kept = readUse(file);
    if (kept === 'unreadable') throw unreadable();
    this.#file = file;
    this.#clock = clock;
    this.#day = kept?.day ?? dayOf(clock);
    this.#counts = kept?.counts ?? nothing();
  }

  used(what: Spendable): number {
    this.#turn();
    return this.#counts[what];
  }

  /** @returns what is used now */
  add(what: Spendable, count: number): number {
    this.#turn();
    if (count > 0) this.#isSaved = false;
    this.#counts[what] += count;
    return this.#counts[what];
  }

  /** Hands it to the operating system. @throws Fault UNAVAILABLE */
  save(): void {
    if (this.#isSaved) return;
    try {
      this.#descriptor ??= openSync(this.#file, OPEN_FLAGS, 0o600);
      writeSync(this.#descriptor, encodeUse(this.#day, this.#counts), 0, FILE_BYTES, 0);
    } catch (cause) {
      throw new Fault('UNAVAILABLE', 'the use of the day cannot be kept', { cause });
    }
    this.#isSaved = true;
  }

  /** The next `save` opens its file again. */
  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  /** A clock that was set back gives no new day. */
  #turn(): void {
    const today = dayOf(this.#clock);
    if (today <= this.#day) return;
    this.#day = today;
    Object.assign(this.#counts, nothing());
    this.#isSaved = false;
  }
}

function dayOf(clock: Clock): number {
  return Math.floor(clock.now().getTime() / DAY_MS);
}

function nothing(): Record<Spendable, number> {
  return { rows: 0, bytes: 0, statements: 0, milliseconds: 0 };
}

function encodeUse(day: number, counts: Readonly<Record<Spendable, number>>): Buffer {
  const bytes = Buffer.alloc(FILE_BYTES);
  bytes.writeUInt32BE(MAGIC, 0);
  bytes.writeUInt32BE(day, 4);
  for (const [index, what] of SPENDABLE.entries()) {
    bytes.writeBigUInt64BE(BigInt(counts[what]), 8 + index * 8);
  }
  bytes.writeUInt32BE(crc32(bytes.subarray(0, FILE_BYTES - 4)), FILE_BYTES - 4);
  return bytes;
}

type Kept = { readonly day: number; readonly counts: Record<Spendable, number> };

/** @returns undefined if there is none */
function readUse(file: string): Kept | 'unreadable' | undefined {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? undefined : 'unreadable';
  }
  const isWhole =
    bytes.length === FILE_BYTES &&
    bytes.readUInt32BE(0) === MAGIC &&
    bytes.readUInt32BE(FILE_BYTES - 4) === crc32(bytes.subarray(0, FILE_BYTES - 4));
  if (!isWhole) return 'unreadable';
  const counts = nothing();
  for (const [index, what] of SPENDABLE.entries()) {
    counts[what] = Number(bytes.readBigUInt64BE(8 + index * 8));
  }
  return { day: bytes.readUInt32BE(4), counts };
}

function unreadable(): Fault {
  return new Fault(
    'UNAVAILABLE',
    "what this grant's day has used cannot be read: tell the operator",
  );
}
