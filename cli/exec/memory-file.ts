/**
 * Files without a name, for programs that take keys by path alone. They lie in memory, are the owner's
 * alone (libpq asks for that) and are gone with this process, however it ends.
 */
import { closeSync, constants, ftruncateSync, openSync, statfsSync, writeSync } from 'node:fs';
import { Fault } from '../../runtime/fault.ts';

/** Linux's, on every architecture that Node runs on but PowerPC's older ones. Source: open(2). */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;
/** Source: statfs(2). */
const TMPFS_MAGIC = 0x01021994;
const OWNER_ALONE = 0o600;

export class MemoryFile implements Disposable {
  #descriptor: number;

  /** @throws Fault STATE_UNUSABLE if the machine has no file system in memory that can be used */
  constructor() {
    this.#descriptor = openUnnamed();
  }

  /** For other processes of this user, while this one lives. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.#descriptor}`;
  }

  /** Puts new bytes in place of the old ones. */
  write(bytes: Uint8Array): void {
    writeSync(this.#descriptor, bytes, 0, bytes.length, 0);
    ftruncateSync(this.#descriptor, bytes.length);
  }

  [Symbol.dispose](): void {
    if (this.#descriptor >= 0) closeSync(this.#descriptor);
    this.#descriptor = -1;
  }
}

function openUnnamed(): number {
  const places = ['/dev/shm', process.env.XDG_RUNTIME_DIR ?? ''];
  for (const place of places) {
    try {
      if (statfsSync(place).type === TMPFS_MAGIC)
        return openSync(place, constants.O_RDWR | O_TMPFILE, OWNER_ALONE);
    } catch {
      // Not there or not ours: the next one may be.
    }
  }
  throw new Fault(
    'STATE_UNUSABLE',
    'no file system in memory for the key: mount a tmpfs at /dev/shm',
  );
}
