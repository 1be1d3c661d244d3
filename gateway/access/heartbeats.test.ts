import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { BackendSchema, OnStale } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { Heartbeats } from './heartbeats.ts';

const strict = create(BackendSchema, { name: 'strict', onStale: OnStale.STRICT });
const standard = create(BackendSchema, { name: 'standard', onStale: OnStale.STANDARD });
const unspecified = create(BackendSchema, { name: 'unspecified' });

describe('Heartbeats', () => {
  let clock: FakeClock;
  let heartbeats: Heartbeats;
  beforeEach(() => {
    clock = new FakeClock();
    heartbeats = new Heartbeats(clock);
  });

  const signal = () => AbortSignal.timeout(5000);
  const unavailable = { code: 'UNAVAILABLE' };

  it('opens nothing before the first heartbeat', () => {
    assert.throws(() => heartbeats.requireFresh(standard), unavailable);
  });

  it('S6: opens sessions for 2 s of silence when strict, for 15 s when standard', async () => {
    heartbeats.beat(clock.now(), 0n);
    await clock.advance(2000);
    for (const backend of [strict, standard, unspecified]) heartbeats.requireFresh(backend);
    await clock.advance(50);
    assert.throws(() => heartbeats.requireFresh(strict), unavailable);
    await clock.advance(12_950);
    for (const backend of [standard, unspecified]) heartbeats.requireFresh(backend);
    await clock.advance(50);
    assert.throws(() => heartbeats.requireFresh(standard), /not heard from its server for 15 s/);
  });

  it('S6: lets sessions live for 15 s of silence when strict, for 5 min when standard', async () => {
    heartbeats.beat(clock.now(), 0n);
    await clock.advance(15_000);
    assert.equal(heartbeats.isTooStaleToLive(strict), false);
    await clock.advance(50);
    assert.equal(heartbeats.isTooStaleToLive(strict), true);
    assert.equal(heartbeats.isTooStaleToLive(standard), false);
    await clock.advance(285_000);
    assert.equal(heartbeats.isTooStaleToLive(standard), true);
  });

  it('S18: refuses sessions when the clocks differ by more than 5 s, either way', () => {
    heartbeats.beat(clock.now(), 0n);
    clock.jump(5000);
    heartbeats.requireFresh(standard);
    clock.jump(1);
    assert.throws(() => heartbeats.requireFresh(standard), /clock is 5 s off its server's/);
    clock.jump(-10_002);
    assert.throws(() => heartbeats.requireFresh(standard), unavailable);
  });

  it("S18: tells the server's time by the monotonic clock, whatever the wall clock does", async () => {
    const at = clock.now();
    heartbeats.beat(at, 0n);
    clock.jump(-3_600_000);
    await clock.advance(1000);
    assert.equal(heartbeats.serverNow()?.getTime(), at.getTime() + 1000);
  });

  it('is made fresh only by a heartbeat whose revocations are applied', async () => {
    heartbeats.beat(clock.now(), 3n);
    assert.throws(() => heartbeats.requireFresh(standard), unavailable);
    heartbeats.applied(2n);
    assert.throws(() => heartbeats.requireFresh(standard), unavailable);
    heartbeats.applied(3n);
    heartbeats.requireFresh(standard);
  });

  it('waits for the revocations that the last heartbeat named', async () => {
    heartbeats.beat(clock.now(), 2n);
    let isCaughtUp = false;
    const waiting = heartbeats.caughtUp(signal()).then(() => {
      isCaughtUp = true;
    });
    heartbeats.applied(1n);
    await clock.advance(50);
    assert.equal(isCaughtUp, false);
    heartbeats.applied(2n);
    await waiting;
  });

  it('waits 2 s for them at most', async () => {
    heartbeats.beat(clock.now(), 2n);
    const waiting = assert.rejects(heartbeats.caughtUp(signal()), unavailable);
    await clock.advance(2000);
    await waiting;
  });
});
