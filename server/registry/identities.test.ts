import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { onEachStore } from '../../test/fixtures/each-store.ts';
import {
  DEFAULTS,
  entryInit,
  OPERATOR,
  RegistryWorld,
  TD,
} from '../../test/fixtures/registry-world.ts';
import type { IdentityInit } from './identities.ts';
import { identityFor, requireActive } from './identity-records.ts';

const WEB = SpiffeId.parse(`spiffe://${TD}/web`);

onEachStore('Identities', (fresh) => {
  let world: RegistryWorld;
  beforeEach(async () => {
    world = await RegistryWorld.open({ store: await fresh().open() });
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const init = (more: Partial<IdentityInit> = {}): IdentityInit => {
    const { expiresInSeconds: _, ...rest } = DEFAULTS;
    const expiresAt = new Date(world.clock.now().getTime() + 60_000);
    return { ...rest, labels: {}, expiresAt, ...more };
  };
  const put = (more?: Partial<IdentityInit>) =>
    world.store.transaction((tx) => world.identities.put(tx, WEB, init(more), OPERATOR));
  const setStatus = (status: 'active' | 'suspended' | 'retired') =>
    world.identities.setStatus(WEB, { status, reason: 'left' }, OPERATOR);

  it('keeps a record as it was put, and its status and creation time over a change', async () => {
    const made = await put({ labels: { team: 'a' }, maxAgents: 3, jwtAudiences: ['db', 'q'] });
    assert.deepEqual(await identityFor(world.store, WEB), made);
    assert.deepEqual(
      [made.labels, made.maxAgents, made.jwtAudiences],
      [{ team: 'a' }, 3, ['db', 'q']],
    );
    await setStatus('suspended');
    world.clock.advance(1000);
    const changed = await put({ owner: 'bo@example.org' });
    assert.deepEqual(await identityFor(world.store, WEB), changed);
    assert.deepEqual(
      [changed.owner, changed.status, changed.createdAt],
      ['bo@example.org', 'suspended', made.createdAt],
    );
  });

  const wrong: [string, Partial<IdentityInit>][] = [
    ['an empty owner', { owner: ' ' }],
    ['a purpose of 1025 characters', { purpose: 'x'.repeat(1025) }],
    ['an end that has passed', { expiresAt: new Date(0) }],
    ['an end that is no time', { expiresAt: new Date(Number.NaN) }],
    ['a label that is too long', { labels: { a: 'x'.repeat(257) } }],
    ['an empty audience', { jwtAudiences: ['db', ''] }],
    ['an audience that is too long', { jwtAudiences: ['x'.repeat(2049)] }],
    ['65 audiences', { jwtAudiences: Array.from({ length: 65 }, (_, n) => `a${n}`) }],
    ['more than a million agents', { maxAgents: 1_000_001 }],
  ];
  for (const [what, more] of wrong) {
    it(`refuses ${what}`, async () => {
      await assert.rejects(put(more), { code: 'INVALID_ARGUMENT' });
    });
  }

  it('ends the sessions of a suspended identity and hides its entries from agents', async () => {
    await world.createEntry(entryInit({}));
    const agent = await world.attest('a');
    const seen = () => world.index.authorisedFor(agent, world.clock.now()).length;
    assert.equal(seen(), 1);
    await setStatus('suspended');
    assert.deepEqual(await world.revoked(), [`spiffeId ${WEB} identity.suspend`]);
    assert.equal(seen(), 0);
    await setStatus('active');
    assert.equal(seen(), 1);
  });

  it('ends the sessions of a retired identity, which stays retired', async () => {
    await put();
    await setStatus('retired');
    assert.deepEqual(await world.revoked(), [`spiffeId ${WEB} identity.retire`]);
    await assert.rejects(setStatus('active'), { code: 'FAILED_PRECONDITION' });
  });

  it('refuses the status of an identity that has no record', async () => {
    await assert.rejects(setStatus('suspended'), { code: 'NOT_FOUND' });
  });

  describe('requireActive', () => {
    it('refuses an identity without record, one that is not active, and one at its very end', async () => {
      const ask = () => requireActive(world.store, WEB, world.clock.now());
      await assert.rejects(ask(), { code: 'PERMISSION_DENIED', message: /not recorded/ });
      await put();
      assert.equal((await ask()).owner, DEFAULTS.owner);
      await setStatus('suspended');
      await assert.rejects(ask(), { code: 'PERMISSION_DENIED', message: /suspended/ });
      await setStatus('active');
      world.clock.advance(60_000);
      await assert.rejects(ask(), { code: 'PERMISSION_DENIED', message: /expired/ });
    });
  });
});
