import assert from 'node:assert/strict';
import { AccessWorld, BACKEND, OPERATOR } from '../../test/fixtures/access-world.ts';
import { isLocked, type LockInit, Locks, listLocks } from './locks.ts';

describe('Locks', () => {
  let world: AccessWorld;
  let locks: Locks;
  beforeEach(async () => {
    world = await AccessWorld.create();
    locks = new Locks(world);
  });

  const SPIFFE_ID = 'spiffe://example.org/reporting';
  const init = (target: LockInit['target'], ttlSeconds = 0): LockInit => ({
    target,
    reason: 'laptop stolen',
    ttlSeconds,
    createdBy: 'uid:0',
  });

  it('revokes what it names in the transaction that makes it, with an event', async () => {
    const lock = await locks.create(init({ case: 'spiffeId', value: SPIFFE_ID }), OPERATOR);
    assert.match(lock.name, /^lock_[a-z2-7]{26}$/);
    const [revocation] = await world.revocations.since(0n);
    assert.deepEqual(revocation?.subject?.subject, { case: 'spiffeId', value: SPIFFE_ID });
    assert.equal(revocation?.reason, 'locked: laptop stolen');
    const [event] = await world.events('lock.created');
    assert.equal(event?.spiffeId, SPIFFE_ID);
    assert.equal(event?.attributes.lock, lock.name);
  });

  it('bars what it names, and nothing else, until it is deleted', async () => {
    const lock = await locks.create(init({ case: 'spiffeId', value: SPIFFE_ID }), OPERATOR);
    const now = world.clock.now();
    assert.equal((await isLocked(world.store, { spiffeId: SPIFFE_ID }, now))?.name, lock.name);
    assert.equal(await isLocked(world.store, { spiffeId: `${SPIFFE_ID}/x` }, now), undefined);
    assert.equal(await isLocked(world.store, { agentId: SPIFFE_ID }, now), undefined);
    await locks.delete(lock.name, OPERATOR);
    assert.equal(await isLocked(world.store, { spiffeId: SPIFFE_ID }, now), undefined);
    assert.equal((await world.events('lock.deleted')).length, 1);
  });

  it('ends at its time', async () => {
    await locks.create(init({ case: 'agentId', value: SPIFFE_ID }, 60), OPERATOR);
    const now = world.clock.now().getTime();
    const at = (ms: number) => isLocked(world.store, { agentId: SPIFFE_ID }, new Date(now + ms));
    assert.notEqual(await at(59_999), undefined);
    assert.equal(await at(60_000), undefined);
    assert.equal((await listLocks(world.store)).length, 1);
  });

  it('refuses a grant or backend that is not there, so that a typing error locks nothing silently', async () => {
    const target = { case: 'backend', value: 'shop' } as const;
    await assert.rejects(locks.create(init(target), OPERATOR), { code: 'NOT_FOUND' });
    assert.deepEqual(await world.events(), []);
    await world.apply(BACKEND);
    await locks.create(init(target), OPERATOR);
    await assert.rejects(locks.delete('lock_x', OPERATOR), { code: 'NOT_FOUND' });
  });

  it('sends gateways no new snapshot', async () => {
    const revision = world.resources.revision.value;
    await locks.create(init({ case: 'spiffeId', value: SPIFFE_ID }), OPERATOR);
    assert.equal(world.resources.revision.value, revision);
  });
});
