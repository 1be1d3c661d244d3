import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import type { RecordedEvent } from '../../proto/gen/writ/gateway/v1/recording_pb.ts';
import {
  frameFile,
  RECORDING_PUBLIC_KEY,
  RecordingWriter,
  rawKey,
} from '../../test/fixtures/recording-writer.ts';
import { recordingFrames } from './recording-frames.ts';
import { type RecordingVerdict, verifyRecording } from './verify-recording.ts';

const SESSION = 's_abc';

async function* each<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items;
}

describe('verifyRecording', () => {
  let writer: RecordingWriter;
  beforeEach(() => {
    writer = new RecordingWriter(SESSION);
    writer.segment(2);
    writer.segment(3);
  });

  const check = async (
    frames: readonly Uint8Array[] = writer.segments.flat(),
    facts: { recordingKey?: Uint8Array; lastHash?: Uint8Array } = {},
  ): Promise<{ events: RecordedEvent[]; verdict: RecordingVerdict }> => {
    const reading = verifyRecording(each(frames), {
      sessionId: SESSION,
      recordingKey: facts.recordingKey ?? RECORDING_PUBLIC_KEY,
      lastHash: facts.lastHash,
    });
    const events: RecordedEvent[] = [];
    for (;;) {
      const next = await reading.next();
      if (next.done === true) return { events, verdict: next.value };
      events.push(next.value);
    }
  };
  const isBroken = async (pattern: RegExp, ...how: Parameters<typeof check>) => {
    const { verdict } = await check(...how);
    assert.equal(verdict.state, 'broken', verdict.detail);
    assert.match(verdict.detail, pattern);
  };

  it('G47 yields every event and verifies seals, chain and end', async () => {
    const { events, verdict } = await check(undefined, { lastHash: writer.previous });
    assert.deepEqual(
      events.map(({ index }) => index),
      [0n, 1n, 2n, 3n, 4n],
    );
    assert.deepEqual(verdict, { state: 'verified', detail: '2 segments, 5 events' });
  });

  it('G47 finds every flipped byte', async () => {
    const frames = writer.segments.flat();
    for (const [index, frame] of frames.entries()) {
      for (let at = 0; at < frame.length; at += 1) {
        const changed = Buffer.from(frame);
        changed[at] = (changed[at] ?? 0) ^ 1;
        const { verdict } = await check(frames.with(index, changed));
        assert.equal(verdict.state, 'broken', `frame ${index}, byte ${at}`);
      }
    }
  });

  it('G47 finds an event that was dropped, and segments that were dropped or swapped', async () => {
    const [first = [], second = []] = writer.segments;
    await isBroken(/segment 0, before event 0: events are missing/, first.toSpliced(1, 1));
    await isBroken(/segment 0, before event 1: its content is not/, first.toSpliced(2, 1));
    await isBroken(/segments are missing/, second);
    await isBroken(/segments are missing/, [...second, ...first]);
    await isBroken(/does not end where/, first, { lastHash: writer.previous });
    await isBroken(/does not end where/, [], { lastHash: writer.previous });
  });

  it('G47 finds a segment of the same number from another record', async () => {
    const other = new RecordingWriter(SESSION);
    other.segment(2);
    other.previous = Buffer.alloc(32, 1);
    other.segment(3);
    const [first = []] = writer.segments;
    await isBroken(/does not follow from the segment before/, [
      ...first,
      ...(other.segments[1] ?? []),
    ]);
  });

  it('finds a record of another session, or signed by another key', async () => {
    const other = new RecordingWriter(SESSION);
    other.segment(1, { session: 's_other' });
    await isBroken(/of another session/, other.segments.flat());
    const forged = new RecordingWriter(SESSION);
    forged.segment(1, { key: generateKeyPairSync('ed25519').privateKey });
    await isBroken(/signature does not verify/, forged.segments.flat());
    const key = rawKey(generateKeyPairSync('ed25519').publicKey);
    await isBroken(/with another key/, undefined, { recordingKey: key });
  });

  it('G47 finds a segment that was cut and another begun behind it', async () => {
    const [first = [], second = []] = writer.segments;
    await isBroken(/begins before the last is sealed/, [...first.slice(0, -1), ...second]);
    await isBroken(/an event stands outside/, [...first, ...second.slice(1)]);
    await isBroken(/a frame cannot be read/, [Buffer.from('garbage')]);
  });

  it('calls a record open that is not sealed yet', async () => {
    writer.segment(1, { seal: false });
    const { events, verdict } = await check();
    assert.equal(events.length, 6);
    assert.equal(verdict.state, 'open');
    assert.equal((await check([])).verdict.state, 'open');
  });
});

describe('recordingFrames', () => {
  const pieces = (bytes: Uint8Array, size: number) =>
    Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) =>
      bytes.subarray(n * size, (n + 1) * size),
    );
  const read = async (bytes: Uint8Array, size: number) => {
    const frames: string[] = [];
    for await (const frame of recordingFrames(each(pieces(bytes, size)))) {
      frames.push(Buffer.from(frame).toString());
    }
    return frames;
  };
  const payloads = ['one', 'two', 'three'].map((word) => Buffer.from(word));

  it('finds the frames however the bytes are cut', async () => {
    const bytes = frameFile(payloads);
    for (let size = 1; size <= bytes.length; size += 1) {
      assert.deepEqual(await read(bytes, size), ['one', 'two', 'three']);
    }
  });

  it('leaves out a frame that is not whole at the end', async () => {
    assert.deepEqual(await read(frameFile(payloads).subarray(0, -1), 5), ['one', 'two']);
  });

  it('puts an empty frame in place of all from a damaged one on', async () => {
    const bytes = frameFile(payloads);
    bytes[12] = 0xff;
    assert.deepEqual(await read(bytes, bytes.length), ['one', '']);
    const endless = Buffer.alloc(20 * 1024 * 1024);
    assert.deepEqual(await read(endless, 4 * 1024 * 1024), ['']);
  });
});
