import assert from 'node:assert/strict';
import { createHash, createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fromBinary } from '@bufbuild/protobuf';
import {
  FindingKind,
  type RecordedEvent,
  RecordedFrameSchema,
  type SegmentHead,
  type SegmentSeal,
} from '../../proto/gen/writ/gateway/v1/recording_pb.ts';
import type { Fault } from '../../runtime/fault.ts';
import { readFrames } from '../../runtime/frame-file.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { type RecordingKey, recordingKey } from './gateway-keys.ts';
import { Recordings } from './recordings.ts';
import { MAXIMUM_SEGMENT_BYTES } from './segment.ts';
import { SessionRecording } from './session-recording.ts';

const KEY = recordingKey(generateKeyPairSync('ed25519').privateKey);

interface ReadSegment {
  head: SegmentHead;
  readonly events: RecordedEvent[];
  seal: SegmentSeal | undefined;
  readonly hash: Uint8Array;
}

/** As an auditor reads it: with nothing but the files and the public key. */
async function readSegment(path: string): Promise<ReadSegment> {
  const hash = createHash('sha256');
  const events: RecordedEvent[] = [];
  let head: SegmentHead | undefined;
  let seal: SegmentSeal | undefined;
  for (const bytes of readFrames(await readFile(path))) {
    const { frame } = fromBinary(RecordedFrameSchema, bytes);
    if (frame.case === 'seal') {
      seal = frame.value;
      continue;
    }
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    hash.update(length).update(bytes);
    if (frame.case === 'head') head = frame.value;
    if (frame.case === 'event') events.push(frame.value);
  }
  assert.ok(head);
  return { head, events, seal, hash: hash.digest() };
}

function isSignedBy({ publicKey }: RecordingKey, { seal, hash }: ReadSegment): boolean {
  const x = Buffer.from(publicKey).toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  const signed = Buffer.concat([Buffer.from('writ-recording-v1'), seal?.hash ?? Buffer.alloc(0)]);
  return (
    seal !== undefined &&
    Buffer.compare(seal.hash, hash) === 0 &&
    verify(null, signed, key, seal.signature)
  );
}

describe('SessionRecording', () => {
  let root: string;
  let recordings: Recordings;
  let told: string[];
  let failures: Fault[];
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'writ-recording-'));
    const directory = join(root, 'recordings');
    recordings = new Recordings({ directory, key: KEY, clock: new FakeClock() });
    told = [];
    failures = [];
  });
  afterEach(() => rm(root, { recursive: true }));

  const open = (sessionId = 's_1') =>
    recordings.open(sessionId, {
      wrote: () => {},
      denied: (what, rule) => told.push(`denied ${what} ${rule}`),
      found: ({ isUnmasked, name }) => told.push(`found ${isUnmasked} ${name}`),
      sealed: ({ number }) => told.push(`sealed ${number}`),
      failed: (fault) => failures.push(fault),
    });
  const path = (segment: number) => join(root, 'recordings', 's_1', `${segment}.seg`);
  const statement = (number: bigint, text = 'select 1') =>
    ({ case: 'statement', value: { number, text, class: 'read' } }) as const;

  it('G47: seals a segment that verifies with the public key alone', async () => {
    const recording = open();
    recording.write(statement(1n));
    recording.write({ case: 'result', value: { number: 1n, rows: 3n, commandTag: 'SELECT 3' } });
    const hash = recording.seal();
    const segment = await readSegment(path(0));
    assert.ok(isSignedBy(KEY, segment));
    assert.deepEqual(Buffer.from(hash), Buffer.from(segment.hash));
    assert.deepEqual(Buffer.from(segment.head.previousHash), Buffer.alloc(32));
    assert.deepEqual(Buffer.from(segment.head.keyId), Buffer.from(KEY.keyId));
    assert.deepEqual(
      segment.events.map(({ index, event }) => [index, event.case]),
      [
        [0n, 'statement'],
        [1n, 'result'],
      ],
    );
    assert.deepEqual(told, ['sealed 0']);
  });

  it('G47: hashes frames of every length alike', async () => {
    const recording = open();
    const lengths = [0, 1, 4000, 4050, 4060, 4070, 4080, 4090, 4096, 5000, 10, 8192, 100_000, 3];
    for (const [index, length] of lengths.entries()) {
      recording.write(statement(BigInt(index + 1), 'x'.repeat(length)));
    }
    recording.seal();
    assert.ok(isSignedBy(KEY, await readSegment(path(0))));
  });

  it('has a statement in its file at once, and a result with the next event or soon after', async () => {
    const recording = open();
    const result = (number: bigint) => ({ case: 'result', value: { number, rows: 1n } }) as const;
    const inFile = async () => (await readSegment(path(0))).events.map(({ event }) => event.case);
    recording.write(statement(1n));
    recording.write(result(1n));
    assert.deepEqual(await inFile(), ['statement']);
    recording.write(statement(2n));
    assert.deepEqual(await inFile(), ['statement', 'result', 'statement']);
    recording.write(result(2n));
    recording.sync();
    assert.equal((await inFile()).length, 4);
    recording.write(result(3n));
    const deadline = Date.now() + 2000;
    while ((await inFile()).length < 5 && Date.now() < deadline) await sleep(20);
    assert.equal((await inFile()).length, 5);
    recording.seal();
  });

  it('G47: any flipped byte is found', async () => {
    const recording = open();
    for (let n = 1n; n <= 3n; n += 1n) recording.write(statement(n));
    recording.seal();
    const bytes = await readFile(path(0));
    for (let at = 0; at < bytes.length; at += 7) {
      const flipped = Buffer.from(bytes);
      flipped[at] = (flipped[at] ?? 0) ^ 1;
      await writeFile(path(0), flipped);
      const isFound = await readSegment(path(0)).then(
        (segment) => !isSignedBy(KEY, segment),
        () => true,
      );
      assert.ok(isFound, `byte ${at}`);
    }
  });

  it('goes on in a new segment before one is larger than 8 MiB, and chains them', async () => {
    const recording = open();
    const large = 'x'.repeat(3 * 1024 * 1024);
    for (let n = 1n; n <= 5n; n += 1n) recording.write(statement(n, large));
    recording.seal();
    const segments = await Promise.all([0, 1, 2].map((n) => readSegment(path(n))));
    let previous: Uint8Array = new Uint8Array(32);
    for (const [number, segment] of segments.entries()) {
      assert.ok((await stat(path(number))).size <= MAXIMUM_SEGMENT_BYTES);
      assert.ok(isSignedBy(KEY, segment));
      assert.equal(segment.head.segment, number);
      assert.deepEqual(Buffer.from(segment.head.previousHash), Buffer.from(previous));
      previous = segment.hash;
    }
    assert.deepEqual(
      segments.flatMap(({ events }) => events.map(({ index }) => index)),
      [0n, 1n, 2n, 3n, 4n],
    );
    assert.deepEqual(await readdir(join(root, 'recordings', 's_1')), ['0.seg', '1.seg', '2.seg']);
  });

  it('fails once and for good on an event that fits in no segment', () => {
    const recording = open();
    const huge = statement(1n, 'x'.repeat(MAXIMUM_SEGMENT_BYTES));
    assert.throws(() => recording.write(huge), { code: 'RECORDING_UNWRITABLE' });
    assert.throws(() => recording.write(statement(2n)), { code: 'RECORDING_UNWRITABLE' });
    assert.throws(() => recording.sync(), { code: 'RECORDING_UNWRITABLE' });
    assert.equal(failures.length, 1);
    assert.equal(recording.seal().length, 0);
  });

  it('leaves what a crash leaves readable and without a seal', async () => {
    const recording = open();
    recording.write(statement(1n));
    const { events, seal } = await readSegment(path(0));
    assert.deepEqual([events.length, seal], [1, undefined]);
    recording.seal();
  });

  it('writes to no record of another session, nor outside of its directory', () => {
    open().seal();
    assert.throws(() => open(), { code: 'RECORDING_UNWRITABLE' });
    for (const sessionId of ['../x', '', 'a/b', '.']) {
      assert.throws(() => open(sessionId), { code: 'RECORDING_UNWRITABLE' });
    }
  });

  it('is readable by its owner alone', async () => {
    open().seal();
    assert.equal((await stat(path(0))).mode & 0o777, 0o600);
    assert.equal((await stat(join(root, 'recordings', 's_1'))).mode & 0o777, 0o700);
  });

  it('tells of statements and channels that a rule refused', () => {
    const recording = open();
    recording.write({ case: 'statement', value: { number: 1n, deniedBy: 'statements: read' } });
    recording.write({ case: 'channelOpened', value: { channel: 1, deniedBy: 'shell' } });
    recording.write({ case: 'channelOpened', value: { channel: 2 } });
    assert.deepEqual(told, ['denied statement statements: read', 'denied channel shell']);
    recording.seal();
  });

  it('tells of what was shown and should not have been', () => {
    const recording = open();
    for (const [kind, name] of [
      [FindingKind.MASKED, 'card'],
      [FindingKind.SHOWN, 'email'],
      [FindingKind.UNMASKED, 'public.customers.ssn'],
    ] as const) {
      recording.write({ case: 'finding', value: { kind, name, count: 1n } });
    }
    assert.deepEqual(told, ['found false email', 'found true public.customers.ssn']);
    recording.seal();
  });

  it('accepts nothing after the seal', () => {
    const recording = open();
    recording.seal();
    assert.throws(() => recording.write(statement(1n)), { code: 'RECORDING_UNWRITABLE' });
    assert.deepEqual([told, failures], [['sealed 0'], []]);
    assert.ok(recording instanceof SessionRecording);
  });

  describe('read', () => {
    it('gives the bytes of all segments in order, 64 KiB at a time at most', async () => {
      const recording = open();
      const large = 'x'.repeat(5 * 1024 * 1024);
      recording.write(statement(1n, large));
      recording.write(statement(2n, large));
      recording.seal();
      const chunks: Uint8Array[] = [];
      for await (const chunk of recordings.read('s_1')) chunks.push(chunk);
      assert.ok(chunks.every(({ length }) => length > 0 && length <= 65_536));
      const files = Buffer.concat([await readFile(path(0)), await readFile(path(1))]);
      assert.ok(Buffer.concat(chunks).equals(files));
    });

    for (const sessionId of ['s_2', '../recordings/s_1', '']) {
      it(`finds nothing under ${JSON.stringify(sessionId)}`, async () => {
        open().seal();
        const reading = recordings.read(sessionId).next();
        await assert.rejects(reading, { code: 'NOT_FOUND' });
      });
    }
  });
});
