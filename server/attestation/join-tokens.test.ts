import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { onEachStore } from '../../test/fixtures/each-store.ts';
import { OPERATOR, RegistryWorld, TD } from '../../test/fixtures/registry-world.ts';

onEachStore('JoinTokens', (fresh) => {
  it('gives a token to one of many agents that race for it', async () => {
    await using world = await RegistryWorld.open({ store: await fresh().open() });
    const { token } = await world.joinTokens.create({ ttlSeconds: 60 }, OPERATOR);
    const racers = Array.from({ length: 8 }, () => world.joinTokens.take(Buffer.from(token)));
    const taken = (await Promise.all(racers)).filter((one) => one !== undefined);
    assert.equal(taken.length, 1);
  });

  it('leaves no alias behind a token that was presented too late', async () => {
    await using world = await RegistryWorld.open({ store: await fresh().open() });
    const alias = SpiffeId.fromSegments(TD, 'cluster');
    const { token } = await world.joinTokens.create({ ttlSeconds: 60, alias }, OPERATOR);
    assert.equal(world.index.size, 1);
    world.clock.advance(60_000);
    assert.ok(await world.joinTokens.take(Buffer.from(token)));
    assert.equal(world.index.size, 0);
  });

  it('keeps the alias of a token that was spent in time', async () => {
    await using world = await RegistryWorld.open({ store: await fresh().open() });
    const alias = SpiffeId.fromSegments(TD, 'cluster');
    const { token } = await world.joinTokens.create({ ttlSeconds: 60, alias }, OPERATOR);
    assert.ok(await world.joinTokens.take(Buffer.from(token)));
    assert.equal(await world.joinTokens.take(Buffer.from(token)), undefined);
    assert.equal(world.index.size, 1);
  });
});
