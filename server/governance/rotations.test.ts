import assert from 'node:assert/strict';
import { RotationStep } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { onEachStore } from '../../test/fixtures/each-store.ts';
import { GATEWAY, SecretWorld } from '../../test/fixtures/secret-world.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import { secretVersions } from '../secrets/secret-rows.ts';
import { findRotation } from './rotation-rows.ts';
import { LEAVE_MS } from './rotation-work.ts';

const { PROVE, RETIRE, UNDO } = RotationStep;
const OPERATOR = { kind: 'operator', uid: 0 };
const EDGE = 'spiffe://example.org/writ/gateway/edge';
const [ONE, OTHER] = ['a'.repeat(22), 'b'.repeat(22)];

onEachStore('Rotations', (fresh) => {
  let store: Datastore;
  let world: SecretWorld;
  beforeEach(async () => {
    store = await fresh().open();
    world = new SecretWorld(store);
    await world.addGateway(GATEWAY, ['*']);
    await world.put('shop-login', 'one');
    await world.addBackend('shop', 'shop-login');
  });
  afterEach(() => store[Symbol.asyncDispose]());

  const begin = () => world.rotations.begin('shop', OPERATOR);
  /** A server that has just started on the store takes a step, or is told how it went. */
  const take = async (step: RotationStep, worker = ONE, gateway = GATEWAY) => {
    const id = (await findRotation(store, 'backend', 'shop'))?.id ?? '';
    return new SecretWorld(store, world).work.take(gateway, { id, step, worker }, {});
  };
  const report = async (step: RotationStep, failure = '', worker = ONE) => {
    const id = (await findRotation(store, 'backend', 'shop'))?.id ?? '';
    await new SecretWorld(store, world).work.report(GATEWAY, { id, step, worker, failure }, {});
  };
  const stepOf = async () => (await findRotation(store, 'backend', 'shop'))?.step;
  const states = async () =>
    (await secretVersions(store, 'shop-login')).map(
      ({ version, state, login }) => `${version} ${state} ${login}`,
    );
  const login = async () => {
    const { user, password } = await world.logins.fetch(GATEWAY, {
      ...{ backend: 'shop', previous: false },
    });
    return { user, password };
  };
  const types = async () =>
    (await world.events()).map(({ type }) => type).filter((type) => type.startsWith('rotation.'));

  it('G63 uses a new login once a gateway has proved it, and keeps the former until it opens nothing', async () => {
    await begin();
    const before = { user: 'writ_gateway', password: 'one' };
    assert.deepEqual(await login(), before);
    const taken = await take(PROVE);
    assert.deepEqual([taken.current, taken.twin?.user], [before, 'writ_gateway_b']);
    assert.match(taken.twin?.password ?? '', /^[A-Za-z0-9_-]{43}$/);
    assert.deepEqual(await login(), before);
    await report(PROVE);
    assert.deepEqual(await login(), taken.twin);
    assert.deepEqual(await states(), ['2 current writ_gateway_b', '1 previous ']);
    const retiring = await take(RETIRE);
    assert.deepEqual(retiring, { current: taken.twin, twin: before, force: false });
    await report(RETIRE);
    assert.deepEqual(await states(), ['2 current writ_gateway_b']);
    assert.equal(await stepOf(), 'done');
    assert.deepEqual(await types(), [
      ...['rotation.started', 'rotation.taken', 'rotation.proved'],
      ...['rotation.taken', 'rotation.finished'],
    ]);
  });

  it('goes back to the first login with the next rotation', async () => {
    for (const user of ['writ_gateway_b', 'writ_gateway']) {
      await begin();
      await take(PROVE);
      await report(PROVE);
      await take(RETIRE);
      await report(RETIRE);
      assert.equal((await login()).user, user);
    }
  });

  it('G63 goes on with the login in use where the new one is not proved, and destroys that', async () => {
    await begin();
    const { twin } = await take(PROVE);
    await report(PROVE, 'the backend refuses\nthe new login');
    assert.deepEqual(await states(), ['1 current ']);
    const undoing = await take(UNDO);
    assert.deepEqual([undoing.twin, undoing.force], [{ user: twin?.user, password: '' }, true]);
    await report(UNDO);
    const rotation = await findRotation(store, 'backend', 'shop');
    assert.deepEqual(
      [rotation?.step, rotation?.reason],
      ['failed', 'the backend refuses the new login'],
    );
    const [failed] = await world.events('rotation.failed');
    assert.equal(failed?.reason, 'the backend refuses the new login');
    assert.deepEqual((await types()).slice(-2), ['rotation.taken', 'rotation.undone']);
    await begin();
    assert.deepEqual(await states(), ['3 pending writ_gateway_b', '1 current ']);
  });

  it('G64 gives a step anew to whoever comes once its process has died, and to the same at once', async () => {
    await begin();
    const first = await take(PROVE);
    assert.deepEqual(await take(PROVE), first);
    await assert.rejects(take(PROVE, OTHER), {
      code: 'FAILED_PRECONDITION',
      message: 'another process is at this step',
    });
    world.clock.jump(30_000);
    assert.deepEqual(await take(PROVE, OTHER), first);
    await report(PROVE, 'too late', ONE);
    assert.equal(await stepOf(), 'proving', 'the word of one that has lost the step is nothing');
    await report(PROVE, '', OTHER);
    await report(PROVE, 'twice', OTHER);
    assert.equal(await stepOf(), 'retiring');
    await assert.rejects(take(PROVE, OTHER), { code: 'FAILED_PRECONDITION' });
  });

  it('tries a retirement again that did not come to its end, and forces it in the end', async () => {
    await begin();
    await take(PROVE);
    await report(PROVE);
    await take(RETIRE);
    await report(RETIRE, 'connections of the former login are still there');
    const rotation = await findRotation(store, 'backend', 'shop');
    assert.equal(rotation?.step, 'retiring');
    assert.equal(rotation?.reason, 'connections of the former login are still there');
    assert.equal((await take(RETIRE)).force, false);
    world.clock.jump(LEAVE_MS);
    assert.equal((await take(RETIRE)).force, true);
  });

  it('S1 gives no step to a gateway that does not serve the backend', async () => {
    await world.addGateway(EDGE, ['stock']);
    await begin();
    for (const gateway of [EDGE, 'spiffe://example.org/reporting'])
      await assert.rejects(take(PROVE, ONE, gateway), { code: 'PERMISSION_DENIED' });
  });

  it('tells gateways of the steps that wait for one', async () => {
    assert.deepEqual(await world.rotationsFor(GATEWAY), []);
    const { id } = await begin();
    assert.deepEqual(await world.rotationsFor(GATEWAY), [{ id, backend: 'shop', step: PROVE }]);
    await take(PROVE);
    await report(PROVE);
    assert.deepEqual(await world.rotationsFor(GATEWAY), [{ id, backend: 'shop', step: RETIRE }]);
    await take(RETIRE);
    await report(RETIRE);
    assert.deepEqual(await world.rotationsFor(GATEWAY), []);
  });

  describe('begins nothing', () => {
    const refused = (message: RegExp, backend = 'shop') =>
      assert.rejects(world.rotations.begin(backend, OPERATOR), { message });

    it('for a login that is no secret of the vault, or no other backend', async () => {
      await world.addBackend('stock', undefined);
      await refused(/no secret of the vault/, 'stock');
      await refused(/no backend of that name/, 'nothing');
      await world.addBackend('missing', 'missing');
      await refused(/the vault has no secret missing/, 'missing');
    });

    it('while it is being rotated, or where another backend names the secret', async () => {
      await begin();
      await refused(/is being rotated/);
      await world.addBackend('stock', 'shop-login');
      await refused(/backend stock names the same secret/);
    });

    it('where another backend logs in to the same server with the same account', async () => {
      await world.put('other', 'one');
      await world.addBackend('stock', 'other');
      await refused(/backend stock logs in with the same account/);
      await world.addBackend('stock', 'other', { port: 5433 });
      await begin();
    });
  });

  it('lets nobody change the secret meanwhile', async () => {
    await begin();
    const refused = { code: 'FAILED_PRECONDITION', message: /is being rotated/ };
    await assert.rejects(world.put('shop-login', 'two'), refused);
    await assert.rejects(world.secrets.retire('shop-login', OPERATOR), refused);
    await take(PROVE);
    await report(PROVE);
    await assert.rejects(world.put('shop-login', 'two'), refused);
    await take(RETIRE);
    await report(RETIRE);
    assert.equal(await world.put('shop-login', 'two'), 3);
    assert.deepEqual(await login(), { user: 'writ_gateway', password: 'two' });
  });

  describe('as time passes', () => {
    const DAY = 24 * 3600;
    const look = () => new SecretWorld(store, world).rotationClock.look();

    it('begins when the document says so, and not before', async () => {
      await world.addBackend('shop', 'shop-login', { rotateEvery: 30 * DAY });
      await look();
      assert.equal(await stepOf(), undefined);
      world.clock.jump(30 * DAY * 1000);
      await look();
      await look();
      assert.equal(await stepOf(), 'proving');
      assert.equal((await world.events('rotation.started'))[0]?.actor?.kind, 'server');
      await take(PROVE);
      await report(PROVE);
      await take(RETIRE);
      await report(RETIRE);
      await look();
      assert.equal(await stepOf(), 'done');
    });

    it('gives one up that nobody proves, and begins again an hour later', async () => {
      await world.addBackend('shop', 'shop-login', { rotateEvery: DAY });
      world.clock.jump(DAY * 1000);
      await look();
      world.clock.jump(10 * 60_000);
      await look();
      assert.equal(await stepOf(), 'undoing');
      assert.deepEqual(await states(), ['1 current ']);
      await take(UNDO);
      await report(UNDO);
      await look();
      assert.equal(await stepOf(), 'failed');
      world.clock.jump(60 * 60_000);
      await look();
      assert.equal(await stepOf(), 'proving');
    });

    it('ends one whose backend names another login, or is gone', async () => {
      await begin();
      await world.addBackend('shop', undefined);
      await look();
      assert.deepEqual([await stepOf(), await states()], ['failed', ['1 current ']]);
    });

    it('tells of one that cannot begin once a minute, and begins the others', async () => {
      await world.put('stock-login', 'one');
      await world.addBackend('a-copy', 'shop-login', { rotateEvery: DAY });
      await world.addBackend('stock', 'stock-login', { rotateEvery: DAY, port: 5433 });
      world.clock.jump(DAY * 1000);
      const { rotationClock } = world;
      await rotationClock.look();
      await rotationClock.look();
      const [event, ...more] = await world.events('rotation.refused');
      assert.deepEqual([event?.backend, more], ['a-copy', []]);
      assert.equal((await findRotation(store, 'backend', 'stock'))?.step, 'proving');
    });
  });
});
