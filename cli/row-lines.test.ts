import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { ResultRowsSchema } from '../proto/gen/writ/gateway/v1/recording_pb.ts';
import { RowLines } from './row-lines.ts';

const rows = (data: Buffer, isLast = false) => create(ResultRowsSchema, { data, isLast });

function message(type: string, body: Buffer): Buffer {
  const header = Buffer.alloc(5);
  header.write(type);
  header.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([header, body]);
}

function row(...values: (Buffer | null)[]): Buffer {
  const count = Buffer.alloc(2);
  count.writeInt16BE(values.length);
  const parts = values.map((value) => {
    const length = Buffer.alloc(4);
    length.writeInt32BE(value?.length ?? -1);
    return Buffer.concat([length, value ?? Buffer.alloc(0)]);
  });
  return message('D', Buffer.concat([count, ...parts]));
}

describe('RowLines', () => {
  it('G50: lets no escape of a value through, and shows what is no text in hex', () => {
    const lines = new RowLines().lines(
      rows(
        Buffer.concat([row(Buffer.from('\u001b]0;x\u0007\u202ea')), row(Buffer.from([0xff, 0]))]),
      ),
    );
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    assert.doesNotMatch(lines.join('\n'), /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    assert.equal(lines[1], '| ?=0xff00');
  });

  it('survives bytes that are no messages, whole and in pieces', () => {
    let state = 7;
    const noise = Buffer.from(
      Array.from({ length: 20_000 }, () => {
        state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
        return state >>> 24;
      }),
    );
    new RowLines().lines(rows(noise));
    const inPieces = new RowLines();
    for (let at = 0; at < noise.length; at += 7) inPieces.lines(rows(noise.subarray(at, at + 7)));
    assert.deepEqual(new RowLines().lines(rows(message('D', Buffer.from([0, 9])))), [
      '| (not readable)',
    ]);
  });

  it('holds no message that is too long to show, and goes on behind it', () => {
    const long = row(Buffer.alloc(3_000_000, 'x'));
    const reader = new RowLines();
    const lines: string[] = [];
    for (const part of [long.subarray(0, 100), long.subarray(100), row(Buffer.from('7'))]) {
      lines.push(...reader.lines(rows(part)));
    }
    assert.deepEqual(lines, [`| (a row or message of ${long.length} bytes)`, '| ?=7']);
    assert.deepEqual(reader.lines(rows(Buffer.alloc(0), true)), ['| (no more rows are kept)']);
  });
});
