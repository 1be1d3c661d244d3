import assert from 'node:assert/strict';
import { createLogger } from '../runtime/log.ts';
import { onEachStore } from '../test/fixtures/each-store.ts';
import { ManualClock, START } from '../test/fixtures/registry-world.ts';
import { ClockGuard } from './clock-guard.ts';
import type { Datastore } from './plugins/datastore/datastore.ts';

const DAY_MS = 24 * 3_600_000;
const YEAR_MS = 365 * DAY_MS;

/** Its wall clock can jump without the other. */
class JumpingClock extends ManualClock {
  #offMs = 0;
  override now = () => new Date(this.monotonicMs() + this.#offMs);

  jump(milliseconds: number): void {
    this.#offMs += milliseconds;
  }
}

onEachStore('ClockGuard', (fresh) => {
  let store: Datastore;
  let host: JumpingClock;
  beforeEach(async () => {
    store = await fresh().open();
    host = new JumpingClock();
  });
  afterEach(() => store[Symbol.asyncDispose]());

  const open = () =>
    ClockGuard.open({
      ...{ store, clock: host },
      log: createLogger({ process: 'server', level: 'silent' }),
    });
  const later = (milliseconds: number) => new Date(START.getTime() + milliseconds);

  /** What the guard says after the host's clock has jumped, then run on, in seconds since the start. */
  const seconds = ({ clock }: ClockGuard) => (clock.now().getTime() - START.getTime()) / 1000;

  it('never runs back: a clock that was set back is caught up with at half its pace', async () => {
    await using guard = await open();
    host.advance(60_000);
    assert.equal(seconds(guard), 60);
    host.jump(-50_000);
    assert.equal(seconds(guard), 60);
    host.advance(20_000);
    assert.equal(seconds(guard), 70);
    host.advance(60_000);
    assert.equal(seconds(guard), 100);
    host.advance(20_000);
    assert.equal(seconds(guard), 110);
    host.advance(5000);
    assert.equal(seconds(guard), 115);
  });

  it('lets what lives end, however far the clock was set back', async () => {
    await using guard = await open();
    host.jump(-10 * YEAR_MS);
    host.advance(3_600_000);
    assert.equal(seconds(guard), 1800);
    assert.equal(guard.isAstray, false);
  });

  it('follows a host that was suspended', async () => {
    await using guard = await open();
    host.jump(3_600_000);
    assert.equal(seconds(guard), 3600);
    host.jump(30 * DAY_MS);
    assert.equal(guard.clock.now().getTime() - START.getTime(), 3_600_000 + 30 * DAY_MS);
    assert.equal(guard.isAstray, false);
  });

  it('does not follow a leap of ten years, and serves nobody over the network meanwhile', async () => {
    const stored = () => store.get(`select value from meta where key = 'highest_time_ms'`);
    await using guard = await open();
    host.jump(10 * YEAR_MS);
    host.advance(7000);
    assert.equal(seconds(guard), 7);
    assert.equal(guard.isAstray, true);
    const remote = () => guard.refuseWhileAstray({ peer: { kind: 'remote' } });
    assert.throws(remote, { code: 'UNAVAILABLE', message: /clock/ });
    guard.refuseWhileAstray({ peer: { kind: 'local' } });
    await guard[Symbol.asyncDispose]();
    assert.deepEqual(await stored(), { value: String(later(7000).getTime()) });
    host.jump(-10 * YEAR_MS);
    host.advance(1000);
    assert.equal(seconds(guard), 8);
    remote();
  });

  it('believes a clock that is far ahead when it starts: the server may have been off', async () => {
    {
      await using _ = await open();
    }
    host.jump(YEAR_MS);
    await using guard = await open();
    assert.equal(guard.isAstray, false);
    assert.equal(guard.clock.now().getTime() - START.getTime(), YEAR_MS);
  });

  it('waits by its own time, and not by the one that the host was set back to', async () => {
    await using guard = await open();
    host.advance(60_000);
    guard.clock.now();
    host.jump(-3_600_000);
    const waiting = guard.clock.waitUntil(later(61_000), new AbortController().signal);
    host.advance(2000);
    await waiting;
  });

  it('keeps the later time of another server on the store, without going by it', async () => {
    await using guard = await open();
    await store.transaction((tx) =>
      tx.run(
        `update meta set value = ? where key = 'highest_time_ms'`,
        String(later(60_000).getTime()),
      ),
    );
    await guard[Symbol.asyncDispose]();
    assert.deepEqual(guard.clock.now(), later(0));
    const row = await store.get(`select value from meta where key = 'highest_time_ms'`);
    assert.deepEqual(row, { value: String(later(60_000).getTime()) });
  });

  it('goes on after a restart from the highest time seen', async () => {
    {
      await using guard = await open();
      host.advance(60_000);
      guard.clock.now();
    }
    host.jump(-30_000);
    await using guard = await open();
    assert.deepEqual(guard.clock.now(), later(60_000));
  });

  it('refuses to start with a clock that is far behind the highest time seen', async () => {
    {
      await using _ = await open();
    }
    host.jump(-301_000);
    await assert.rejects(open(), { code: 'STATE_UNUSABLE', message: /set the clock right/ });
  });
});
