import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { RecordingChunkSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { RecordingReads } from './recording-reads.ts';

describe('RecordingReads', () => {
  let clock: FakeClock;
  let asked: bigint[];
  let reads: RecordingReads;
  let stop: AbortController;
  beforeEach(() => {
    clock = new FakeClock();
    asked = [];
    stop = new AbortController();
    reads = new RecordingReads({ clock, ask: ({ requestId }) => asked.push(requestId) });
  });

  const deliver = (init: MessageInitShape<typeof RecordingChunkSchema>) =>
    reads.deliver(create(RecordingChunkSchema, init));
  const data = (bytes: number) => Buffer.alloc(bytes, 1);

  it('gives the chunks in order, each read its own', async () => {
    const one = reads.read('s_1', stop.signal);
    const other = reads.read('s_2', stop.signal);
    const firsts = Promise.all([one.next(), other.next()]);
    deliver({ requestId: 2n, data: data(2) });
    deliver({ requestId: 1n, data: data(1), last: true });
    assert.deepEqual(
      (await firsts).map(({ value }) => value?.length),
      [1, 2],
    );
    assert.equal((await one.next()).done, true);
    deliver({ requestId: 2n, data: data(3), last: true });
    assert.equal((await other.next()).value?.length, 3);
    assert.equal((await other.next()).done, true);
    assert.deepEqual(asked, [1n, 2n]);
  });

  it('waits 10 s for each chunk, not for the whole', async () => {
    const read = reads.read('s_1', stop.signal);
    for (let n = 0; n < 3; n += 1) {
      const next = read.next();
      await clock.advance(9000);
      deliver({ requestId: 1n, data: data(1) });
      assert.equal((await next).done, false);
    }
    const silent = assert.rejects(read.next(), { code: 'UNAVAILABLE' });
    await clock.advance(10_100);
    await silent;
  });

  it('reads at most two at a time, and forgets those that were left', async () => {
    const first = reads.read('s_1', stop.signal);
    const second = reads.read('s_2', stop.signal);
    const waiting = [first.next(), second.next()];
    await assert.rejects(reads.read('s_3', stop.signal).next(), { code: 'RESOURCE_EXHAUSTED' });
    deliver({ requestId: 1n, data: data(1) });
    await waiting[0];
    await first.return(undefined);
    const third = reads.read('s_3', stop.signal).next();
    deliver({ requestId: 3n, data: data(1) });
    assert.equal((await third).done, false);
    reads.end();
    await assert.rejects(waiting[1] ?? Promise.resolve(), { code: 'UNAVAILABLE' });
  });

  it('refuses a chunk above 64 KiB and a record above 256 MiB', async () => {
    const large = reads.read('s_1', stop.signal).next();
    deliver({ requestId: 1n, data: data(65_537) });
    await assert.rejects(large, { code: 'RESOURCE_EXHAUSTED' });
    const endless = reads.read('s_2', stop.signal);
    const drained = (async () => {
      for await (const _ of endless) {
        // Only how it ends matters.
      }
    })();
    await new Promise(setImmediate);
    const chunk = create(RecordingChunkSchema, { requestId: 2n, data: data(65_536) });
    for (let n = 0; n <= 4096; n += 1) reads.deliver(chunk);
    await assert.rejects(drained, { code: 'RESOURCE_EXHAUSTED' });
  });

  it('ends when its reader aborts', async () => {
    const read = reads.read('s_1', stop.signal).next();
    await new Promise(setImmediate);
    stop.abort(new Error('gone'));
    await assert.rejects(read, /gone/);
  });
});
