import assert from 'node:assert/strict';
import { FakeClock } from '../test/fakes/fake-clock.ts';
import { deadlineAt, msUntil, untilDeadline } from './deadline.ts';

describe('Deadline', () => {
  const HOUR_MS = 3_600_000;
  let clock: FakeClock;
  beforeEach(() => {
    clock = new FakeClock();
  });
  const inMs = (milliseconds: number) =>
    deadlineAt(new Date(clock.now().getTime() + milliseconds), clock);

  it('comes when the wall clock leaps over it', () => {
    const deadline = inMs(HOUR_MS);
    clock.jump(HOUR_MS - 1);
    assert.equal(msUntil(deadline, clock), 1);
    clock.jump(1);
    assert.equal(msUntil(deadline, clock), 0);
  });

  it('is not put off by a wall clock that is set back', async () => {
    const deadline = inMs(1000);
    clock.jump(-HOUR_MS);
    assert.equal(msUntil(deadline, clock), 1000);
    await clock.advance(1000);
    assert.equal(msUntil(deadline, clock), 0);
  });

  it('is waited for by both clocks', async () => {
    const { signal } = new AbortController();
    const deadline = inMs(1000);
    clock.jump(-HOUR_MS);
    const waiting = untilDeadline(deadline, clock, signal);
    await clock.advance(1000);
    await waiting;
  });

  it('is waited for no longer than until the signal aborts', async () => {
    const stop = new AbortController();
    const waiting = untilDeadline(inMs(HOUR_MS), clock, stop.signal);
    stop.abort(new Error('enough'));
    await assert.rejects(waiting, { message: 'enough' });
    await assert.rejects(untilDeadline(inMs(HOUR_MS), clock, stop.signal), { message: 'enough' });
  });
});
