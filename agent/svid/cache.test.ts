import assert from 'node:assert/strict';
import { parseTrustDomain, SpiffeId } from '../../identity/spiffe-id.ts';
import { systemClock } from '../../runtime/clock.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { SvidCache } from './cache.ts';
import type { AgentEntry } from './entry.ts';

const td = parseTrustDomain('example.org');
const entry = (id: string, more: Partial<AgentEntry> = {}): AgentEntry => ({
  id,
  spiffeId: SpiffeId.fromSegments(td, id),
  selectors: ['unix:uid:0'],
  hint: '',
  revision: 0n,
  createdAt: 0n,
  federatesWith: [],
  onDemand: false,
  freshJwt: false,
  ...more,
});

describe('SvidCache', () => {
  let authority: FakeAuthority;
  let now: Date;
  const clock = { ...systemClock, now: () => now };
  const later = (seconds: number) => {
    now = new Date(now.getTime() + seconds * 1000);
  };
  const newCache = () => new SvidCache({ clock, bundle: authority.bundle.value });
  const issue = async (cache: SvidCache, ...entries: AgentEntry[]) => {
    const svids = entries.map((one) => authority.issue(one.spiffeId, { ttlMs: 3_600_000 }));
    const issued = (await Promise.all(svids)).map((svid, at) => ({ entry: entries[at], svid }));
    cache.storeAll(
      issued.flatMap(({ entry: e, svid }) => (e === undefined ? [] : { entry: e, svid })),
    );
  };
  const dueIds = (cache: SvidCache) => cache.due(500).map(({ id }) => id);
  const lacks = (cache: SvidCache) => cache.state.value.identities.map(({ lack }) => lack);

  beforeEach(async () => {
    authority = await FakeAuthority.create(td);
    now = new Date();
  });

  it('sorts identities by entry id, and asks for an SVID of each', () => {
    const cache = newCache();
    cache.setEntries([entry('b'), entry('a')]);
    assert.deepEqual(
      cache.state.value.identities.map((one) => one.entry.id),
      ['a', 'b'],
    );
    assert.deepEqual(dueIds(cache), ['a', 'b']);
    assert.deepEqual(cache.due(1).length, 1);
  });

  it('asks again for what is revoked, and serves it until there is another', async () => {
    const cache = newCache();
    const [a, b] = [entry('a'), entry('b')];
    cache.setEntries([a, b]);
    await issue(cache, a, b);
    const serial = cache.state.value.identities[0]?.svid?.serial ?? '';
    const crls = [Buffer.from('list')];
    cache.setCrls({ crls, revoked: new Set([serial, '01']) });
    assert.deepEqual(cache.state.value.crls, crls);
    assert.deepEqual(dueIds(cache), ['a']);
    assert.deepEqual(lacks(cache), [undefined, undefined]);
    await issue(cache, a);
    assert.deepEqual(dueIds(cache), []);
  });

  it('asks again at half the life of an SVID', async () => {
    const cache = newCache();
    const a = entry('a');
    cache.setEntries([a]);
    await issue(cache, a);
    assert.deepEqual(dueIds(cache), []);
    later(0.44 * 3600);
    assert.deepEqual(dueIds(cache), []);
    later(0.12 * 3600);
    assert.deepEqual(dueIds(cache), ['a']);
    assert.deepEqual(lacks(cache), [undefined]);
  });

  it('asks at half the life of an SVID also when the clock was set back meanwhile', async () => {
    const fake = new FakeClock(now);
    const cache = new SvidCache({ clock: fake, bundle: authority.bundle.value });
    const a = entry('a');
    cache.setEntries([a]);
    await issue(cache, a);
    fake.jump(-3_600_000);
    assert.deepEqual(dueIds(cache), []);
    const due = (cache.nextDueAt()?.getTime() ?? 0) - fake.now().getTime();
    assert.ok(due > 0.44 * 3_600_000 && due < 0.56 * 3_600_000, String(due));
    fake.jump(due);
    assert.deepEqual(dueIds(cache), ['a']);
  });

  it('asks at once for a changed entry, and serves its old SVID until the new one is here', async () => {
    const cache = newCache();
    cache.setEntries([entry('a')]);
    await issue(cache, ...cache.due(1));
    cache.setEntries([entry('a', { revision: 1n, hint: 'new' })]);
    assert.deepEqual(dueIds(cache), ['a']);
    assert.deepEqual(lacks(cache), [undefined]);
  });

  it('drops at once the SVID of an entry that now names another identity', async () => {
    const cache = newCache();
    cache.setEntries([entry('a')]);
    await issue(cache, ...cache.due(1));
    cache.setEntries([entry('a', { revision: 1n, spiffeId: SpiffeId.fromSegments(td, 'z') })]);
    assert.deepEqual(lacks(cache), ['pending']);
  });

  it('keeps an entry due that changed while its SVID was on its way', async () => {
    const cache = newCache();
    const old = entry('a');
    cache.setEntries([old]);
    cache.setEntries([entry('a', { revision: 1n })]);
    await issue(cache, old);
    assert.deepEqual(dueIds(cache), ['a']);
  });

  it('asks anew for what chains to a tainted authority, once', async () => {
    const cache = newCache();
    const a = entry('a');
    cache.setEntries([a]);
    await issue(cache, a);
    await authority.rotate({ taintOld: true });
    cache.setBundle(authority.bundle.value);
    assert.deepEqual(dueIds(cache), ['a']);
    assert.deepEqual(lacks(cache), [undefined]);
    await issue(cache, a);
    assert.deepEqual(dueIds(cache), []);
  });

  it('stops serving what chains to an authority that is gone', async () => {
    const cache = newCache();
    const a = entry('a');
    cache.setEntries([a]);
    await issue(cache, a);
    await authority.rotate({ taintOld: false });
    cache.setBundle(authority.bundle.value);
    assert.deepEqual(lacks(cache), [undefined]);
    authority.revokeOld();
    cache.setBundle(authority.bundle.value);
    assert.deepEqual(lacks(cache), ['pending']);
    assert.deepEqual(dueIds(cache), ['a']);
  });

  it('forgets an SVID at its end', async () => {
    const cache = newCache();
    const a = entry('a');
    cache.setEntries([a]);
    await issue(cache, a);
    later(3599);
    cache.dropExpired();
    assert.deepEqual(lacks(cache), [undefined]);
    later(1);
    cache.dropExpired();
    assert.deepEqual(lacks(cache), ['unavailable']);
  });

  it('keeps the SVID when the server is away, drops it when the server refuses another', async () => {
    const cache = newCache();
    const a = entry('a');
    cache.setEntries([a]);
    await issue(cache, a);
    cache.failAll([a], 'unavailable');
    assert.deepEqual(lacks(cache), [undefined]);
    cache.failAll([a], 'refused');
    assert.deepEqual(lacks(cache), ['refused']);
  });

  it('tries again after a growing while, or when the server tells of a change', () => {
    const cache = newCache();
    const a = entry('a');
    cache.setEntries([a]);
    cache.failAll([a], 'refused');
    assert.deepEqual(dueIds(cache), []);
    later(1);
    assert.deepEqual(dueIds(cache), ['a']);
    cache.failAll([a], 'refused');
    later(1);
    assert.deepEqual(dueIds(cache), []);
    cache.retryFailed();
    assert.deepEqual(dueIds(cache), ['a']);
  });

  it('asks for an on-demand entry only once a workload matches it', () => {
    const cache = newCache();
    cache.setEntries([entry('a', { onDemand: true })]);
    assert.deepEqual(dueIds(cache), []);
    assert.equal(cache.match(cache.state.value, new Set(['unix:uid:0'])).length, 1);
    assert.deepEqual(dueIds(cache), ['a']);
  });

  it('publishes nothing when the same entries come again', () => {
    const cache = newCache();
    cache.setEntries([entry('a')]);
    const before = cache.state.value;
    cache.setEntries([entry('a')]);
    assert.equal(cache.state.value, before);
  });
});
