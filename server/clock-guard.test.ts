import assert from 'node:assert/strict';
import { createLogger } from '../runtime/log.ts';
import { onEachStore } from '../test/fixtures/each-store.ts';
import { ManualClock, START } from '../test/fixtures/registry-world.ts';
import { ClockGuard } from './clock-guard.ts';
import type { Datastore } from './plugins/datastore/datastore.ts';

onEachStore('ClockGuard', (fresh) => {
  let store: Datastore;
  let host: ManualClock;
  beforeEach(async () => {
    store = await fresh().open();
    host = new ManualClock();
  });
  afterEach(() => store[Symbol.asyncDispose]());

  const open = () =>
    ClockGuard.open({
      ...{ store, clock: host },
      log: createLogger({ process: 'server', level: 'silent' }),
    });
  const later = (milliseconds: number) => new Date(START.getTime() + milliseconds);

  it('lets time stand still when the clock is set back, until it has caught up', async () => {
    await using guard = await open();
    host.advance(60_000);
    assert.deepEqual(guard.clock.now(), later(60_000));
    host.advance(-50_000);
    assert.deepEqual(guard.clock.now(), later(60_000));
    host.advance(51_000);
    assert.deepEqual(guard.clock.now(), later(61_000));
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
    host.advance(-30_000);
    await using guard = await open();
    assert.deepEqual(guard.clock.now(), later(60_000));
  });

  it('refuses to start with a clock that is far behind the highest time seen', async () => {
    {
      await using _ = await open();
    }
    host.advance(-301_000);
    await assert.rejects(open(), { code: 'STATE_UNUSABLE', message: /set the clock right/ });
  });
});
