import assert from 'node:assert/strict';
import { verifySvid } from '../../identity/verify.ts';
import { AccessWorld } from '../../test/fixtures/access-world.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { findHolder } from './holder.ts';
import { REVOCATION_BATCH, type RevocationInit, Revocations } from './revocations.ts';

describe('Revocations', () => {
  let world: AccessWorld;
  beforeEach(async () => {
    world = await AccessWorld.create();
  });

  const init = (value: string): RevocationInit => ({
    subject: { kind: 'grant', value },
    cause: 'grant.delete',
    reason: `grant ${value} was deleted`,
  });
  const revoke = (value: string) =>
    world.store.transaction((tx) => world.revocations.revoke(tx, init(value)));

  it('numbers revocations in the order of their commits and tells those after a number', async () => {
    const first = await revoke('a');
    const second = await revoke('b');
    assert.ok(second > first);
    const [after, ...none] = await world.revocations.since(first);
    assert.deepEqual(none, []);
    assert.deepEqual(after?.subject?.subject, { case: 'grant', value: 'b' });
    assert.equal(after?.cause, 'grant.delete');
    assert.equal(after?.seq, second);
  });

  it('moves its head when the transaction is committed, not before', async () => {
    await world.store.transaction(async (tx) => {
      await world.revocations.revoke(tx, init('a'));
      assert.equal(world.revocations.head.value, 0n);
    });
    assert.equal(world.revocations.head.value, 1n);
  });

  it('keeps nothing of a transaction that fails', async () => {
    const failed = world.store.transaction(async (tx) => {
      await world.revocations.revoke(tx, init('a'));
      throw new Error('no');
    });
    await assert.rejects(failed);
    assert.equal(world.revocations.head.value, 0n);
    assert.deepEqual(await world.revocations.since(0n), []);
  });

  it('takes its head over from the store after a start', async () => {
    await revoke('a');
    const again = new Revocations(world.store, world.clock);
    await again.load();
    assert.equal(again.head.value, 1n);
  });

  it('is asked by subject about one SVID, without a walk through all it holds', async () => {
    const plans: string[] = [];
    const reader: Reader = {
      all: (sql, ...values) => world.store.all(sql, ...values),
      findMany: (init) => world.store.findMany(init),
      get: async (sql, ...values) => {
        const steps = await world.store.all(`explain query plan ${sql}`, ...values);
        plans.push(...steps.map(({ detail }) => String(detail)));
        return undefined;
      },
    };
    const { chain } = await world.addWorkload('web');
    const svid = verifySvid(chain, () => world.bundle.value, world.clock.now());
    await findHolder(reader, svid, world.clock.now());
    const ofRevocations = plans.filter((step) => / r\b/.test(step));
    assert.equal(ofRevocations.length, 3);
    for (const step of ofRevocations) assert.match(step, /^SEARCH r USING INDEX revocations_by/);
  });

  it('reads in batches', async () => {
    await world.store.transaction(async (tx) => {
      for (let n = 0; n <= REVOCATION_BATCH; n += 1) await world.revocations.revoke(tx, init('a'));
    });
    assert.equal((await world.revocations.since(0n)).length, REVOCATION_BATCH);
  });
});
