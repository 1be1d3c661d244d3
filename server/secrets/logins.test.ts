import assert from 'node:assert/strict';
import { onEachStore } from '../../test/fixtures/each-store.ts';
import { GATEWAY, SecretWorld } from '../../test/fixtures/secret-world.ts';
import { gatewaySnapshot } from '../access/gateway-snapshot.ts';
import { findGateway } from '../access/gateways.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';

const EDGE = 'spiffe://example.org/writ/gateway/edge';

onEachStore('Logins', (fresh) => {
  let store: Datastore;
  let world: SecretWorld;
  beforeEach(async () => {
    store = await fresh().open();
    world = new SecretWorld(store);
    await world.addGateway(GATEWAY, ['*']);
    await world.addGateway(EDGE, ['stock']);
    await world.put('shop-login', 'one');
    await world.addBackend('shop', 'shop-login');
    await world.addBackend('stock', undefined);
  });
  afterEach(() => store[Symbol.asyncDispose]());

  const fetched = (gateway: string, backend = 'shop', previous = false) =>
    world.logins.fetch(gateway, { backend, previous });

  it('gives the login to a gateway that serves a backend which names the secret', async () => {
    const login = { user: 'writ_gateway', password: 'one', version: 1n };
    assert.deepEqual(await fetched(GATEWAY), login);
    await world.put('shop-login', 'two');
    assert.deepEqual(await fetched(GATEWAY), { ...login, password: 'two', version: 2n });
    assert.deepEqual(await fetched(GATEWAY, 'shop', true), login);
  });

  it('tells each fetch, without the value', async () => {
    const wish = { backend: 'shop', previous: false };
    for (let times = 0; times < 2; times += 1)
      await world.logins.fetch(GATEWAY, wish, { requestId: 'r_1' });
    const events = await world.events('secret.fetched');
    assert.deepEqual(
      events.map(({ actor, backend, attributes }) => [actor?.spiffeId, backend, attributes]),
      Array.from({ length: 2 }, () => [
        ...[GATEWAY, 'shop'],
        { secret: 'shop-login', version: '1', login: 'writ_gateway', request_id: 'r_1' },
      ]),
    );
  });

  it('gives nothing if the event cannot be written', async () => {
    await world.run('drop table audit_events');
    await assert.rejects(fetched(GATEWAY));
  });

  const denied: readonly [string, string, string][] = [
    ['to a gateway that does not serve the backend', EDGE, 'shop'],
    ['to a caller without a record', 'spiffe://example.org/writ/gateway/none', 'shop'],
    ['of a backend that names no secret', GATEWAY, 'stock'],
    ['of a backend that is not there', GATEWAY, 'nothing'],
  ];
  for (const [what, gateway, backend] of denied)
    it(`S1 gives no login ${what}, and tells it once a minute`, async () => {
      for (let tries = 0; tries < 3; tries += 1)
        await assert.rejects(fetched(gateway, backend), { code: 'PERMISSION_DENIED' });
      const [event, ...more] = await world.events('secret.refused');
      assert.deepEqual([event?.actor?.spiffeId, event?.backend, more], [gateway, backend, []]);
      assert.deepEqual(await world.events('secret.fetched'), []);
    });

  it('says that there is no such version', async () => {
    await assert.rejects(fetched(GATEWAY, 'shop', true), { code: 'NOT_FOUND' });
    await world.addBackend('stock', 'missing');
    await assert.rejects(fetched(GATEWAY, 'stock'), { code: 'NOT_FOUND' });
  });

  it('tells gateways the number of the version, and of those backends alone that they serve', async () => {
    await world.put('shop-login', 'two');
    await world.addBackend('orders', 'missing');
    const loginsOf = async (id: string) => {
      const gateway = await findGateway(store, id);
      assert.ok(gateway);
      const sshAuthorities = { user: [], host: [] };
      return (await gatewaySnapshot(store, gateway, { revision: 1n, sshAuthorities })).logins;
    };
    assert.deepEqual(await loginsOf(GATEWAY), [
      { backend: 'orders', version: 0n },
      { backend: 'shop', version: 2n },
    ]);
    assert.deepEqual(await loginsOf(EDGE), []);
  });
});
