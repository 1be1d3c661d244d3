import assert from 'node:assert/strict';
import { createLogger } from '../../runtime/log.ts';
import { RegistryWorld } from '../../test/fixtures/registry-world.ts';
import { RefusalCounter } from './refusal-counter.ts';

describe('RefusalCounter', () => {
  const log = createLogger({ process: 'server', level: 'silent' });
  const counterOf = (world: RegistryWorld) => new RefusalCounter({ ...world, log });
  const refusals = async (world: RegistryWorld) =>
    (await world.events())
      .filter(({ type }) => type === 'connection.refused' || type === 'refusals.overflow')
      .map(({ actor, reason, attributes }) => [actor?.address ?? '', reason, attributes.count]);

  it('writes one event for each address, port and reason in a minute, with a count', async () => {
    await using world = await RegistryWorld.open();
    await using counter = counterOf(world);
    const refuse = (address: string, reason = 'no TLS') =>
      counter.refused({ address, port: 1, reason });
    for (let n = 0; n < 3; n += 1) refuse('::1');
    refuse('::1', 'too late');
    await counter.flush();
    for (let n = 0; n < 5; n += 1) refuse('::1');
    await counter.flush();
    assert.deepEqual(await refusals(world), [
      ['::1', 'no TLS', '3'],
      ['::1', 'too late', '1'],
    ]);
    world.clock.advance(60_000);
    await counter.flush();
    assert.deepEqual((await refusals(world)).at(-1), ['::1', 'no TLS', '5']);
  });

  it('writes what is left when it is closed', async () => {
    await using world = await RegistryWorld.open();
    {
      await using counter = counterOf(world);
      counter.refused({ address: '::1', port: 1, reason: 'no TLS' });
      await counter.flush();
      counter.refused({ address: '::1', port: 1, reason: 'no TLS' });
    }
    assert.deepEqual((await refusals(world)).length, 2);
  });

  it('S12: has room for alarms of agents when strangers have filled theirs', async () => {
    await using world = await RegistryWorld.open();
    await using counter = counterOf(world);
    for (let n = 0; n < 1001; n += 1)
      counter.refused({ address: `10.0.0.${n}`, port: 1, reason: 'no TLS' });
    const alarm = { type: 'agent.superseded_svid_used', actor: { kind: 'agent', spiffeId: 'a' } };
    counter.count('superseded|a', alarm);
    await counter.flush();
    assert.equal((await world.events()).filter(({ type }) => type === alarm.type).length, 1);
  });

  it('counts the keys beyond a thousand together', async () => {
    await using world = await RegistryWorld.open();
    await using counter = counterOf(world);
    for (let n = 0; n < 1200; n += 1)
      counter.refused({ address: `10.0.0.${n}`, port: 1, reason: 'no TLS' });
    await counter.flush();
    const written = await refusals(world);
    assert.equal(written.length, 1001);
    assert.deepEqual(written.at(-1), ['', '', '200']);
  });
});
