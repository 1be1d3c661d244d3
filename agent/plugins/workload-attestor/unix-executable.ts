/**
 * What program a process runs: its path and its SHA-256.
 *
 * Both are read through /proc/PID/exe, which is the very file the kernel runs. Its link text alone
 * proves nothing: in a mount namespace of its own (which any user can make) a process can run its own
 * file as /usr/bin/anything. So the path counts only if it leads to the same file from here. A hash is
 * remembered by inode, size and times; the change time is among them, since a file's owner can set the
 * modification time back.
 */
import { createHash } from 'node:crypto';
import { type BigIntStats, readlinkSync } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import type { Clock } from '../../../runtime/clock.ts';

const MAXIMUM_FILE_BYTES = 512n * 1024n * 1024n;
const MAXIMUM_REMEMBERED = 1024;
const MAXIMUM_WAITING = 64;
const CHUNK_BYTES = 1024 * 1024;
/** A file changed more recently than this may change again within one tick of its change time. */
const SETTLED_MS = 2000;
const ATTEMPTS = 3;

/** What is known of the program; a part that cannot be proved is left out. */
export interface Executable {
  readonly path: string | undefined;
  /** Lower-case hex. */
  readonly sha256: string | undefined;
}

/** Reads programs of processes; one for the whole agent, as it remembers their hashes. */
export class Executables {
  readonly #clock: Clock;
  readonly #hashes = new Map<string, string>();
  readonly #running = new Map<string, Promise<string>>();
  #queue: Promise<unknown> = Promise.resolve();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * @param options.hash whether the hash is wanted
   * @returns nothing known if the program cannot be read, or changes while it is looked at
   */
  async of(pid: number, options: { readonly hash: boolean }): Promise<Executable> {
    const link = `/proc/${pid}/exe`;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const found = await this.#look(link, options);
      if (found !== 'changed') return found;
    }
    return { path: undefined, sha256: undefined };
  }

  async #look(link: string, { hash }: { readonly hash: boolean }): Promise<Executable | 'changed'> {
    const before = await statOf(link);
    if (before === undefined) return { path: undefined, sha256: undefined };
    const path = await provenPath(link, before);
    const known = hash ? this.#hashes.get(versionOf(before)) : undefined;
    if (!hash || known !== undefined) return { path, sha256: known };
    const sha256 = await this.#hashAt(link, before);
    // To hash takes so long that another program may have been executed.
    const after = await statOf(link);
    if (after === undefined || !sameFile(before, after)) return 'changed';
    return { path, sha256 };
  }

  async #hashAt(link: string, status: BigIntStats): Promise<string | undefined> {
    let file: FileHandle;
    try {
      file = await open(link, 'r');
    } catch {
      return undefined;
    }
    try {
      const opened = await file.stat({ bigint: true });
      return versionOf(opened) === versionOf(status) ? await this.#sha256(file, opened) : undefined;
    } finally {
      await file.close();
    }
  }

  async #sha256(file: FileHandle, status: BigIntStats): Promise<string | undefined> {
    if (!status.isFile() || status.size > MAXIMUM_FILE_BYTES) return undefined;
    const key = versionOf(status);
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    if (this.#running.size >= MAXIMUM_WAITING) return undefined;
    // One file at a time: a hash must not take the machine from the workloads.
    const hash = this.#queue.then(() => hashOf(file));
    this.#queue = hash.catch(() => undefined);
    this.#running.set(key, hash);
    try {
      const sha256 = await hash;
      if (versionOf(await file.stat({ bigint: true })) !== key) return undefined;
      this.#remember(key, status, sha256);
      return sha256;
    } finally {
      this.#running.delete(key);
    }
  }

  #remember(key: string, status: BigIntStats, sha256: string): void {
    const age = this.#clock.now().getTime() - Number(status.ctimeNs / 1_000_000n);
    if (age < SETTLED_MS) return;
    if (this.#hashes.size >= MAXIMUM_REMEMBERED) {
      const [oldest] = this.#hashes.keys();
      if (oldest !== undefined) this.#hashes.delete(oldest);
    }
    this.#hashes.set(key, sha256);
  }
}

async function provenPath(link: string, status: BigIntStats): Promise<string | undefined> {
  try {
    // The kernel tells it from memory; the file itself may be on a file system that does not answer.
    const path = readlinkSync(link);
    const here = await statOf(path);
    return here !== undefined && sameFile(here, status) ? path : undefined;
  } catch {
    return undefined;
  }
}

async function hashOf(file: FileHandle): Promise<string> {
  const hash = createHash('sha256');
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let position = 0; BigInt(position) <= MAXIMUM_FILE_BYTES; ) {
    const { bytesRead } = await file.read(chunk, 0, chunk.length, position);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(chunk.subarray(0, bytesRead));
    position += bytesRead;
  }
  throw new Error('the program grew beyond the largest size that is hashed');
}

async function statOf(path: string): Promise<BigIntStats | undefined> {
  try {
    return await stat(path, { bigint: true });
  } catch {
    return undefined;
  }
}

function sameFile(a: BigIntStats, b: BigIntStats): boolean {
  return a.dev === b.dev && a.ino === b.ino;
}

function versionOf(status: BigIntStats): string {
  return [status.dev, status.ino, status.size, status.mtimeNs, status.ctimeNs].join(' ');
}
