import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { createLogger } from '../../runtime/log.ts';
import { onEachStore } from '../../test/fixtures/each-store.ts';
import {
  DEFAULTS,
  entryInit,
  OPERATOR,
  RegistryWorld,
  START,
  TD,
} from '../../test/fixtures/registry-world.ts';
import { Expiry } from './expiry.ts';

onEachStore('Expiry', (fresh) => {
  const log = createLogger({ process: 'server', level: 'silent' });
  const expiryOf = (world: RegistryWorld) =>
    new Expiry({ ...world, log, housekeep: (tx, now) => world.joinTokens.dropExpired(tx, now) });
  const inSeconds = (seconds: number) => BigInt(START.getTime() / 1000 + seconds);

  async function until(holds: () => Promise<boolean>): Promise<void> {
    for (let left = 500; left > 0 && !(await holds()); left -= 1) await sleep(10);
    assert.ok(await holds());
  }

  it('deletes an entry at its end and ends its sessions', async () => {
    await using world = await RegistryWorld.open({ store: await fresh().open() });
    const { id } = await world.createEntry(entryInit({ more: { expiresAt: inSeconds(5) } }));
    await using _ = expiryOf(world);
    world.clock.advance(4999);
    await sleep(30);
    assert.equal(world.index.size, 1);
    world.clock.advance(1);
    await until(async () => world.index.size === 0);
    assert.deepEqual(await world.revoked(), [`entryId ${id} entry.expired`]);
    assert.equal((await world.events()).at(-1)?.actor?.kind, 'server');
  });

  it('ends the sessions of an identity at its end, once, also over a restart', async () => {
    await using world = await RegistryWorld.open({
      store: await fresh().open(),
      defaults: { ...DEFAULTS, expiresInSeconds: 5 },
    });
    await world.createEntry(entryInit({}));
    {
      await using _ = expiryOf(world);
      await sleep(30);
    }
    world.clock.advance(5000);
    for (let start = 0; start < 2; start += 1) {
      await using _ = expiryOf(world);
      await until(async () => (await world.revoked()).length > 0);
      await sleep(30);
    }
    assert.deepEqual(await world.revoked(), [`spiffeId spiffe://${TD}/web identity.expired`]);
  });

  it('tells of each of a thousand identities and entries that end at once, each once', async () => {
    const expiresInSeconds = 5;
    await using world = await RegistryWorld.open({
      store: await fresh().open(),
      defaults: { ...DEFAULTS, expiresInSeconds },
    });
    const inits = Array.from({ length: 600 }, (_, n) =>
      entryInit({ path: `/w${n}`, more: { expiresAt: inSeconds(n % 2 === 0 ? 5 : 50) } }),
    );
    await world.store.transaction((tx) => world.entries.createAll(tx, inits, { actor: OPERATOR }));
    await using _ = expiryOf(world);
    world.clock.advance(5000);
    const count = 'select count(*) as n from revocations';
    await until(async () => (await world.store.get(count))?.n === 900);
    await until(
      async () => world.index.nextExpiryMs(world.clock.now()) === 50_000 + START.getTime(),
    );
    const rows = await world.store.all(
      'select cause, count(distinct subject) as ids, count(*) as n from revocations group by cause order by cause',
    );
    assert.deepEqual(rows, [
      { cause: 'entry.expired', ids: 300, n: 300 },
      { cause: 'identity.expired', ids: 600, n: 600 },
    ]);
    assert.equal(world.index.size, 300);
  });

  it('drops join tokens that nobody spent in time, with their aliases', async () => {
    await using world = await RegistryWorld.open({ store: await fresh().open() });
    const alias = SpiffeId.parse(`spiffe://${TD}/node`);
    await world.joinTokens.create({ ttlSeconds: 60, alias }, OPERATOR);
    assert.equal(world.index.size, 1);
    world.clock.advance(60_000);
    await using _ = expiryOf(world);
    await until(async () => (await world.store.all('select 1 from join_tokens')).length === 0);
    assert.equal(world.index.size, 0);
  });
});
