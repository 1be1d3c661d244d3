import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import {
  AccessWorld,
  BACKEND,
  documents,
  GATEWAY,
  grantYaml,
  OPERATOR,
} from '../../test/fixtures/access-world.ts';
import { SSH_BACKEND, sshGrantYaml } from '../../test/fixtures/ssh-access.ts';
import { Locks } from './locks.ts';
import { sshTargets } from './ssh-targets.ts';

const CI = SpiffeId.parse('spiffe://example.org/ci');
const MAIN = { name: 'main', hosts: ['gateway.internal', '192.0.2.9'], port: 2222 };

describe('sshTargets', () => {
  let world: AccessWorld;
  beforeEach(async () => {
    world = await AccessWorld.create();
    await serve(GATEWAY, MAIN.hosts, '{"postgres":5432,"ssh":2222}');
    await world.apply(documents(SSH_BACKEND, sshGrantYaml('deploys')));
  });

  const serve = (gateway: string, names: readonly string[], ports: string) =>
    world.run(
      'update gateways set names = ?, ports = ? where id = ?',
      JSON.stringify(names),
      ports,
      gateway,
    );

  const targets = (...ids: readonly string[]) =>
    sshTargets(world.store, ids.length === 0 ? [CI] : ids, world.clock.now());

  it('tells logins and gateways, by backend', async () => {
    const spiffeIds = [CI.toString()];
    assert.deepEqual(await targets(), [
      { backend: 'web-1', logins: ['deploy'], gateways: [MAIN], spiffeIds },
    ]);
  });

  it('joins the logins of all live grants of all these identities, each once', async () => {
    const both = sshGrantYaml('both', { identity: 'ops', ssh: 'logins: [deploy, admin]' });
    await world.apply(both);
    const [target] = await targets(CI.toString(), 'spiffe://example.org/ops');
    assert.deepEqual(target?.logins, ['admin', 'deploy']);
    assert.deepEqual(target?.spiffeIds, [CI.toString(), 'spiffe://example.org/ops']);
    const [asked] = await targets(CI.toString(), 'spiffe://example.org/stranger');
    assert.deepEqual(asked?.spiffeIds, [CI.toString()]);
    assert.deepEqual((await targets())[0]?.logins, ['deploy']);
  });

  it('tells nothing to who holds no grant, nor of backends that are no SSH targets', async () => {
    await world.apply(documents(BACKEND, grantYaml('reads', { identity: 'other' })));
    assert.deepEqual(await targets('spiffe://example.org/other'), []);
    assert.deepEqual(await sshTargets(world.store, [], world.clock.now()), []);
  });

  it('counts no grant that has expired', async () => {
    const expires = new Date(world.clock.now().getTime() + 100).toISOString();
    await world.apply(sshGrantYaml('deploys', { expires }));
    assert.equal((await targets()).length, 1);
    await world.clock.advance(100);
    assert.deepEqual(await targets(), []);
  });

  for (const [kind, value] of [
    ['spiffeId', CI.toString()],
    ['grant', 'deploys'],
    ['backend', 'web-1'],
  ] as const) {
    it(`counts no grant while a lock names its ${kind}`, async () => {
      const locks = new Locks(world);
      const target = { case: kind, value };
      const init = { target, reason: 'stolen', ttlSeconds: 0, createdBy: 'uid:0' };
      const { name } = await locks.create(init, OPERATOR);
      assert.deepEqual(await targets(), []);
      await locks.delete(name, OPERATOR);
      assert.equal((await targets()).length, 1);
    });
  }

  it('names those gateways alone that serve the backend by SSH and have a name', async () => {
    const id = (name: string) => `spiffe://example.org/writ/gateway/${name}`;
    for (const name of ['able', 'elsewhere', 'nameless', 'silent']) {
      await world.addGateway(id(name), name === 'elsewhere' ? ['stock'] : ['web-1']);
      const names = name === 'nameless' ? [] : [`${name}.internal`];
      await serve(id(name), names, name === 'silent' ? '{"postgres":5432}' : '{"ssh":22}');
    }
    const able = { name: 'able', hosts: ['able.internal'], port: 22 };
    assert.deepEqual((await targets())[0]?.gateways, [able, MAIN]);
    await world.run('delete from gateways');
    assert.deepEqual((await targets())[0]?.gateways, []);
  });
});
