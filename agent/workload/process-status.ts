import { closeSync, openSync, readSync } from 'node:fs';

/** Far more than the text with the largest number of groups, 65,536. */
const MAXIMUM_BYTES = 1024 * 1024;

/** Held for all reads, none of which waits while it is in use. */
let buffer: Buffer = Buffer.allocUnsafeSlow(16 * 1024);

/**
 * The text of /proc/PID/status, at one instant. Read without a trip to a thread, which costs more than
 * the kernel needs to make the text up.
 * @throws if there is no such process
 */
export function readStatus(pid: number): string {
  const fd = openSync(`/proc/${pid}/status`, 'r');
  try {
    for (let length = 0; ; ) {
      if (length === buffer.length) buffer = enlarged(buffer);
      const read = readSync(fd, buffer, length, buffer.length - length, null);
      if (read === 0) return buffer.toString('latin1', 0, length);
      length += read;
    }
  } finally {
    closeSync(fd);
  }
}

function enlarged(full: Buffer): Buffer {
  if (full.length >= MAXIMUM_BYTES) throw new Error('/proc/PID/status is too long');
  const larger = Buffer.allocUnsafeSlow(full.length * 2);
  full.copy(larger);
  return larger;
}

/**
 * The numbers of a field in the text of /proc/PID/status; none if the field is not there.
 *
 * The process chooses its `Name`, and the kernel escapes only line feeds in it: a name of
 * `\rUid:\t0\t0` must not pass for a line, so lines end at a line feed and at nothing else.
 * @param field with its colon: `Uid:`
 * @throws Error if something else than numbers stands there
 *
 * Source: proc_pid_status(5).
 */
export function statusNumbers(text: string, field: string): number[] {
  const start = lineStart(text, field);
  if (start === undefined) return [];
  const end = text.indexOf('\n', start);
  const words = text
    .slice(start + field.length, end < 0 ? undefined : end)
    .split(/[\t ]+/)
    .filter((word) => word !== '');
  if (words.every((word) => /^\d{1,10}$/.test(word))) return words.map(Number);
  throw new Error(`${field} in /proc/PID/status is not a list of numbers`);
}

function lineStart(text: string, field: string): number | undefined {
  if (text.startsWith(field)) return 0;
  const feed = text.indexOf(`\n${field}`);
  return feed < 0 ? undefined : feed + 1;
}
