import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { Fault } from '../../runtime/fault.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import type { AgentEntry } from './entry.ts';
import { JwtCache } from './jwt-cache.ts';

const entry: AgentEntry = {
  id: 'e1',
  spiffeId: SpiffeId.parse('spiffe://example.org/web'),
  selectors: ['unix:uid:0'],
  hint: '',
  revision: 0n,
  createdAt: 0n,
  federatesWith: [],
  onDemand: false,
  freshJwt: false,
};
const TTL_MS = 300_000;

describe('JwtCache', () => {
  const setUp = () => {
    const clock = new FakeClock();
    const minted: string[] = [];
    let failure: Fault | undefined;
    const cache = new JwtCache({
      clock,
      mint: async (_entry, audience) => {
        if (failure !== undefined) throw failure;
        minted.push(audience.join(' '));
        const token = `token-${minted.length}`;
        return { token, expiresAt: new Date(clock.now().getTime() + TTL_MS) };
      },
    });
    const fail = (fault: Fault | undefined) => {
      failure = fault;
    };
    return { clock, minted, cache, fail };
  };

  it('hands out the same token for the same audiences, in any order', async () => {
    const { cache, minted } = setUp();
    assert.equal(await cache.get(entry, ['b', 'a']), 'token-1');
    assert.equal(await cache.get(entry, ['a', 'b', 'a']), 'token-1');
    assert.deepEqual(minted, ['a b']);
    assert.equal(await cache.get(entry, ['a']), 'token-2');
  });

  it('mints once for callers that ask at the same time', async () => {
    const { cache, minted } = setUp();
    await Promise.all([cache.get(entry, ['a']), cache.get(entry, ['a'])]);
    assert.equal(minted.length, 1);
  });

  it('mints anew at half the life of a token', async () => {
    const { cache, clock } = setUp();
    await cache.get(entry, ['a']);
    clock.jump(TTL_MS * 0.44);
    assert.equal(await cache.get(entry, ['a']), 'token-1');
    clock.jump(TTL_MS * 0.12);
    assert.equal(await cache.get(entry, ['a']), 'token-2');
  });

  it('mints anew at half the life of a token also when the clock was set back', async () => {
    const { cache, clock } = setUp();
    await cache.get(entry, ['a']);
    clock.jump(-3_600_000);
    await clock.advance(TTL_MS * 0.56);
    assert.equal(await cache.get(entry, ['a']), 'token-2');
  });

  it('hands out the old token while the server is away, and none that has ended', async () => {
    const { cache, clock, fail } = setUp();
    await cache.get(entry, ['a']);
    fail(new Fault('UNAVAILABLE', 'away'));
    clock.jump(TTL_MS * 0.9);
    assert.equal(await cache.get(entry, ['a']), 'token-1');
    clock.jump(TTL_MS * 0.1);
    await assert.rejects(cache.get(entry, ['a']), { code: 'UNAVAILABLE' });
  });

  it('forgets a token once the server refuses another', async () => {
    const { cache, clock, fail } = setUp();
    await cache.get(entry, ['a']);
    clock.jump(TTL_MS * 0.6);
    fail(new Fault('PERMISSION_DENIED', 'no identity issued'));
    await assert.rejects(cache.get(entry, ['a']), { code: 'PERMISSION_DENIED' });
    fail(new Fault('UNAVAILABLE', 'away'));
    await assert.rejects(cache.get(entry, ['a']), { code: 'UNAVAILABLE' });
  });

  it('mints anew for an entry that was changed, and after `clear`', async () => {
    const { cache } = setUp();
    await cache.get(entry, ['a']);
    assert.equal(await cache.get({ ...entry, revision: 1n }, ['a']), 'token-2');
    cache.clear();
    assert.equal(await cache.get(entry, ['a']), 'token-3');
  });

  it('keeps no token that was on its way when it was cleared', async () => {
    const { cache } = setUp();
    const first = cache.get(entry, ['a']);
    cache.clear();
    assert.equal(await first, 'token-1');
    assert.equal(await cache.get(entry, ['a']), 'token-2');
  });

  it('keeps none for an entry whose tokens are each to be fresh', async () => {
    const { cache } = setUp();
    const fresh = { ...entry, freshJwt: true };
    assert.equal(await cache.get(fresh, ['a']), 'token-1');
    assert.equal(await cache.get(fresh, ['a']), 'token-2');
  });

  it('holds at most 1000', async () => {
    const { cache, minted } = setUp();
    for (let at = 0; at <= 1000; at++) await cache.get(entry, [`a${at}`]);
    await cache.get(entry, ['a1']);
    assert.equal(minted.length, 1001);
    await cache.get(entry, ['a0']);
    assert.equal(minted.length, 1002);
  });

  it('has at most 256 minted at the same time', async () => {
    const { cache } = setUp();
    const asked = Array.from({ length: 257 }, (_, at) => cache.get(entry, [`a${at}`]));
    const results = await Promise.allSettled(asked);
    const refused = results.filter(({ status }) => status === 'rejected');
    assert.equal(refused.length, 1);
    await cache.get(entry, ['again']);
  });
});
