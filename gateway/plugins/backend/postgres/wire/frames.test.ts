import assert from 'node:assert/strict';
import { type FrameHandler, FrameStream, HEADER_BYTES, NOT_YET } from './frames.ts';
import { message } from './message-body.ts';

const RULES = { limits: { Q: 1000, D: 1_000_000, S: 4 }, streamed: 'D' };
const row = (bytes: number) => message('D', Buffer.alloc(bytes, 0x61));
const query = (text: string) => message('Q', Buffer.from(`${text}\0`));

/** All that a stream writes and sees when it gets `bytes` in pieces of `size`. */
function run(bytes: Buffer, size: number, instead?: FrameHandler) {
  const written: Buffer[] = [];
  const seen: string[] = [];
  const stream = new FrameStream(RULES, (data, start, end) => {
    seen.push(String.fromCharCode(data[start] ?? 0));
    return instead?.(data, start, end);
  });
  for (let at = 0; at < bytes.length; at += size) {
    stream.push(bytes.subarray(at, at + size), (out) => written.push(out));
  }
  return { written, seen: seen.join(''), stream, sent: Buffer.concat(written) };
}

describe('FrameStream', () => {
  const conversation = Buffer.concat([query('a'), row(300), message('S'), row(0), query('bb')]);

  it('hands on the same bytes and sees the same messages wherever the stream is cut', () => {
    for (let size = 1; size <= conversation.length; size += 1) {
      const { sent, seen } = run(conversation, size);
      assert.deepEqual(sent, conversation, `pieces of ${size}`);
      assert.equal(seen, 'QDSDQ', `pieces of ${size}`);
    }
  });

  it('writes once for a chunk, the chunk itself if nothing in it changes', () => {
    const { written } = run(conversation, conversation.length);
    assert.equal(written.length, 1);
    assert.equal(written[0]?.buffer, conversation.buffer, 'no copy');
    const changed = run(conversation, conversation.length, (data, start) =>
      data[start] === 0x51 ? query('refused') : undefined,
    );
    assert.equal(changed.written.length, 1);
  });

  it('replaces a message, and drops one that is replaced by nothing', () => {
    for (const size of [1, 7, 1000]) {
      const { sent } = run(conversation, size, (data, start, end) => {
        if (data[start] !== 0x51) return undefined;
        return data[start + HEADER_BYTES] === 0x61 ? query('other') : data.subarray(end, end);
      });
      const expected = Buffer.concat([query('other'), row(300), message('S'), row(0)]);
      assert.deepEqual(sent, expected, `pieces of ${size}`);
    }
  });

  it('holds what comes behind a message that cannot be told about yet, wherever the stream is cut', () => {
    for (let size = 1; size <= conversation.length; size += 1) {
      const written: Buffer[] = [];
      const seen: string[] = [];
      let isKnown = false;
      const write = (out: Buffer) => written.push(out);
      const stream = new FrameStream(RULES, (data, start) => {
        const type = String.fromCharCode(data[start] ?? 0);
        if (type === 'S' && !isKnown) return NOT_YET;
        seen.push(type);
        return type === 'S' ? query('s') : undefined;
      });
      for (let at = 0; at < conversation.length; at += size) {
        stream.push(conversation.subarray(at, at + size), write);
      }
      assert.ok(stream.isWaiting);
      assert.equal(seen.join(''), 'QD', `pieces of ${size}`);
      assert.deepEqual(Buffer.concat(written), Buffer.concat([query('a'), row(300)]));
      isKnown = true;
      stream.resume(write);
      assert.ok(!stream.isWaiting);
      assert.equal(seen.join(''), 'QDSDQ', `pieces of ${size}`);
      const expected = [query('a'), row(300), query('s'), row(0), query('bb')];
      assert.deepEqual(Buffer.concat(written), Buffer.concat(expected));
    }
  });

  it('shows a message that is not streamed only when it is whole', () => {
    const bytes = query('select 1');
    let whole = 0;
    run(bytes, 3, (data, start, end) => {
      whole = end - start;
      assert.deepEqual(data.subarray(start, end), bytes);
      return undefined;
    });
    assert.equal(whole, bytes.length);
  });

  it('holds a short row until it is whole and passes a long one in parts', () => {
    const short = run(row(1000).subarray(0, 500), 500);
    assert.equal(short.sent.length, 0);
    assert.equal(short.stream.atBoundary, true);
    const long = run(row(200_000).subarray(0, 500), 500);
    assert.equal(long.sent.length, 500);
    assert.equal(long.stream.atBoundary, false);
  });

  it('is at a boundary again after a long row', () => {
    const bytes = Buffer.concat([row(200_000), query('a')]);
    const { sent, seen, stream } = run(bytes, 1024);
    assert.deepEqual(sent, bytes);
    assert.equal(seen, 'DQ');
    assert.equal(stream.atBoundary, true);
  });

  it('refuses a length as soon as it is read, before the body comes', () => {
    for (const length of [-1, 0, 3, 1001, 0x7fffffff, -0x80000000]) {
      const header = Buffer.alloc(HEADER_BYTES);
      header.write('Q');
      header.writeInt32BE(length, 1);
      assert.throws(() => run(header, 1), { code: 'PROTOCOL_VIOLATION' }, `length ${length}`);
    }
  });

  it('refuses a type that has no limit', () => {
    for (const type of ['F', 'p', '\0', '\xff']) {
      assert.throws(() => run(message(type), 5), { code: 'PROTOCOL_VIOLATION' });
    }
  });

  it('writes what was accepted before a refused message', () => {
    const written: Buffer[] = [];
    const stream = new FrameStream(RULES, () => undefined);
    const bytes = Buffer.concat([query('a'), message('F')]);
    assert.throws(() => stream.push(bytes, (out) => written.push(out)));
    assert.deepEqual(Buffer.concat(written), query('a'));
  });

  it('never writes a byte of a message that its handler refuses', () => {
    const written: Buffer[] = [];
    const stream = new FrameStream(RULES, (data, start) => {
      if (data[start] === 0x51) throw new Error('refused');
      return undefined;
    });
    const bytes = Buffer.concat([row(3), query('a')]);
    assert.throws(() => stream.push(bytes, (out) => written.push(out)), /refused/);
    assert.deepEqual(Buffer.concat(written), row(3));
  });
});
