import { createHash } from 'node:crypto';
import { Fault } from '../../runtime/fault.ts';
import { type BackupHead, type BackupLine, damaged, parseLine } from './backup-format.ts';

/** An event's body is at most 64 KiB, an entry's at most a gRPC message. */
const MAXIMUM_LINE_BYTES = 16 * 1024 * 1024;

type Content = Exclude<BackupLine, { format: string } | { lines: number }>;

/**
 * The lines of a backup after its head, in order. Only when the last has been read is it known that the
 * backup is whole: act on nothing before.
 * @param chunks untrusted
 * @throws Fault STATE_UNUSABLE
 */
export async function readBackup(
  chunks: AsyncIterable<Uint8Array>,
): Promise<{ readonly head: BackupHead; readonly content: AsyncIterable<Content> }> {
  const lines = checkedLines(chunks);
  const first = await lines.next();
  if (first.done === true || !('format' in first.value)) throw damaged(1);
  return { head: first.value, content: contentOf(lines) };
}

async function* contentOf(lines: AsyncIterable<BackupLine>): AsyncGenerator<Content> {
  for await (const line of lines) {
    if ('format' in line || 'lines' in line) throw new Error('a head or end passed for content');
    yield line;
  }
}

/** All lines but the end, which is checked. */
async function* checkedLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<BackupLine> {
  const hash = createHash('sha256');
  let number = 0;
  let isWhole = false;
  for await (const text of textLines(chunks)) {
    if (isWhole) throw damaged(number + 1);
    const line = parseLine(text.toString('utf8'), number + 1);
    if ('lines' in line) {
      isWhole = line.lines === number && line.sha256 === hash.digest('hex');
      if (!isWhole) throw damaged(number + 1);
      continue;
    }
    if ('format' in line && number > 0) throw damaged(number + 1);
    number += 1;
    hash.update(text).update('\n');
    yield line;
  }
  if (!isWhole) throw new Fault('STATE_UNUSABLE', 'the backup is cut short');
}

async function* textLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    rest = Buffer.concat([rest, chunk]);
    let start = 0;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10, start)) {
      yield rest.subarray(start, end);
      start = end + 1;
    }
    rest = rest.subarray(start);
    if (rest.length > MAXIMUM_LINE_BYTES)
      throw new Fault('STATE_UNUSABLE', 'the backup has a line that is too long');
  }
  if (rest.length > 0) throw new Fault('STATE_UNUSABLE', 'the backup is cut short');
}
