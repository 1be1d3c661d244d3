import assert from 'node:assert/strict';
import type { Readable } from 'node:stream';
import { credit, type Inbox, inputStream } from './ssh2-channel-streams.ts';

const READ_AHEAD = 8192;

describe('Inbox', () => {
  function inbox(): { box: Inbox; stream: Readable } {
    const { stream, inbox } = inputStream({ wanted: () => undefined });
    return { box: inbox, stream };
  }

  it('keeps what nobody reads in few pieces, however small it comes', async () => {
    const { box, stream } = inbox();
    const sent = Buffer.alloc(200_000).map((_, at) => at % 251);
    for (const byte of sent) box.push(Buffer.of(byte));
    assert.equal(box.length, sent.length);
    assert.equal(stream.readableLength, READ_AHEAD);
    box.end();
    const pieces: Buffer[] = [];
    for await (const piece of stream) pieces.push(Buffer.from(piece));
    assert.ok(Buffer.from(sent).equals(Buffer.concat(pieces)));
    assert.equal(box.length, 0);
  });

  it('delivers what waits before the end', async () => {
    const { box, stream } = inbox();
    for (let i = 0; i < 10; i += 1) box.push(Buffer.alloc(30_000, i));
    box.end();
    box.end();
    box.push(Buffer.from('late'));
    let read = 0;
    for await (const piece of stream) read += piece.length;
    assert.equal(read, 300_000);
  });

  it('counts nothing for a reader that has given up', () => {
    const { box, stream } = inbox();
    box.push(Buffer.alloc(100_000));
    stream.destroy();
    box.push(Buffer.alloc(100_000));
    assert.equal(box.length, 0);
  });
});

describe('credit', () => {
  const whole = 2 ** 21;
  const half = whole / 2;

  it('gives back what was read once that is half of the window', () => {
    assert.equal(credit(half + 1, 0, whole), 0);
    assert.equal(credit(half, 0, whole), half);
    assert.equal(credit(0, half, whole), half);
  });

  it('gives back little where the peer could send nothing any more', () => {
    assert.equal(credit(0, whole - 10, whole), 10);
    assert.equal(credit(0, whole, whole), 0);
  });
});
