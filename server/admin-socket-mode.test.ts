import assert from 'node:assert/strict';
import { OPERATOR, RegistryWorld } from '../test/fixtures/registry-world.ts';
import { AdminSocketMode } from './admin-socket-mode.ts';

describe('AdminSocketMode', () => {
  let world: RegistryWorld;
  beforeEach(async () => {
    world = await RegistryWorld.open();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  /** A start of the server. */
  const start = (configured?: 'open' | 'limited') =>
    AdminSocketMode.open({ store: world.store, audit: world.audit, configured });
  const told = async () =>
    (await world.events())
      .filter(({ type }) => type.startsWith('admin_socket.'))
      .map(({ type, actor }) => `${type} ${actor?.kind}`);

  it('S16: is open to begin with, and limited by a call for good', async () => {
    const mode = await start();
    assert.equal(mode.isLimited, false);
    await mode.limit(OPERATOR);
    assert.equal(mode.isLimited, true);
    await mode.limit(OPERATOR);
    assert.equal((await start()).isLimited, true);
    assert.deepEqual(await told(), ['admin_socket.limited operator']);
  });

  it('S16: is opened again by a configuration that says so, and by that alone', async () => {
    await (await start()).limit(OPERATOR);
    assert.equal((await start('open')).isLimited, false);
    assert.equal((await start()).isLimited, false);
    assert.deepEqual(await told(), ['admin_socket.limited operator', 'admin_socket.opened server']);
  });

  it('S16: stays limited when the line is taken out of the configuration', async () => {
    assert.equal((await start('limited')).isLimited, true);
    assert.equal((await start('limited')).isLimited, true);
    assert.equal((await start()).isLimited, true);
    assert.deepEqual(await told(), ['admin_socket.limited server']);
  });

  it('S16: is not limited by a call that the next start would undo', async () => {
    const mode = await start('open');
    await assert.rejects(mode.limit(OPERATOR), { code: 'FAILED_PRECONDITION' });
    assert.equal(mode.isLimited, false);
  });
});
