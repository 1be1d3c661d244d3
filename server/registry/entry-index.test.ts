import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { type Entry, EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { entryInit, START, TD } from '../../test/fixtures/registry-world.ts';
import { EntryIndex, type IndexedAgent, idText } from './entry-index.ts';
import { selectorText } from './selectors.ts';

const SERVER = `spiffe://${TD}/spire/server`;
const AGENT: IndexedAgent = { id: `spiffe://${TD}/spire/agent/x/a`, selectors: [] };
const FOREVER = Number.POSITIVE_INFINITY;

describe('EntryIndex', () => {
  const indexOf = (...inits: Parameters<typeof entryInit>[0][]) => {
    const index = new EntryIndex(SERVER);
    for (const [at, init] of inits.entries()) {
      const more = { id: `e${at}`, ...init.more };
      const entry = create(EntrySchema, entryInit({ parent: '/spire/agent/x/a', ...init, more }));
      index.put(entry);
      index.setStanding(idText(entry.spiffeId), { isActive: true, expiresAtMs: FOREVER });
    }
    return index;
  };
  const idsFor = (index: EntryIndex, agent = AGENT, now = START) =>
    index.authorisedFor(agent, now).map(({ id }) => id);

  it('finds direct children, children of matching aliases and their children, by id', () => {
    const index = indexOf(
      { path: '/direct' },
      { path: '/alias', parent: '/spire/server', selectors: ['x:rack:1'] },
      { path: '/other', parent: '/spire/server', selectors: ['x:rack:1', 'x:rack:2'] },
      { path: '/by-alias', parent: '/alias' },
      { path: '/by-other', parent: '/other' },
      { path: '/grandchild', parent: '/by-alias' },
      { path: '/stranger', parent: '/spire/agent/x/b' },
    );
    const agent = { ...AGENT, selectors: [{ type: 'x', value: 'rack:1' }] };
    assert.deepEqual(idsFor(index, agent), ['e0', 'e3', 'e5']);
  });

  it("matches an alias by the agent's own SPIFFE ID", () => {
    const selectors = [`spiffe_id:${AGENT.id}`];
    const index = indexOf(
      { path: '/alias', parent: '/spire/server', selectors },
      { path: '/w', parent: '/alias' },
    );
    assert.deepEqual(idsFor(index), ['e1']);
  });

  it("ends on entries that are each other's parents", () => {
    const index = indexOf(
      { path: '/a' },
      { path: '/b', parent: '/a' },
      { path: '/a', parent: '/b' },
    );
    assert.deepEqual(idsFor(index), ['e0', 'e1', 'e2']);
  });

  it('leaves out what has expired, is suspended or has no record, with all below it', () => {
    const end = BigInt(START.getTime() / 1000);
    const index = indexOf(
      { path: '/a', more: { expiresAt: end } },
      { path: '/b', parent: '/a' },
      { path: '/c' },
      { path: '/d' },
    );
    index.setStanding(`spiffe://${TD}/c`, { isActive: false, expiresAtMs: FOREVER });
    index.setStanding(`spiffe://${TD}/d`, { isActive: true, expiresAtMs: START.getTime() });
    assert.deepEqual(idsFor(index), []);
    const before = new Date(START.getTime() - 1);
    assert.deepEqual(idsFor(index, AGENT, before), ['e0', 'e1', 'e3']);
    for (const id of ['e0', 'e1', 'e2', 'e3'])
      assert.equal(index.authorisedEntry(AGENT, id, START), undefined, id);
  });

  it('lists in order of ids behind any id, present or not', () => {
    const index = indexOf({ more: { id: 'b' } }, { more: { id: 'a' } }, { more: { id: 'd' } });
    const behind = (id: string) => [...index.after(id)].map((entry) => entry.id);
    assert.deepEqual(
      [behind(''), behind('a'), behind('c'), behind('d')],
      [['a', 'b', 'd'], ['b', 'd'], ['d'], []],
    );
    index.remove('b');
    assert.deepEqual(behind(''), ['a', 'd']);
  });

  it('knows the next end of an entry or identity', () => {
    const seconds = START.getTime() / 1000;
    const index = indexOf({ more: { expiresAt: BigInt(seconds + 5) } }, { path: '/b' });
    assert.equal(index.nextExpiryMs(START), (seconds + 5) * 1000);
    index.setStanding(`spiffe://${TD}/b`, { isActive: true, expiresAtMs: START.getTime() + 1 });
    assert.equal(index.nextExpiryMs(START), START.getTime() + 1);
    assert.equal(index.nextExpiryMs(new Date(START.getTime() + 1)), (seconds + 5) * 1000);
    index.remove('e0');
    assert.equal(index.nextExpiryMs(new Date(START.getTime() + 5000)), FOREVER);
  });

  it('puts all in the place of what was there', () => {
    const index = indexOf({ path: '/old' }, { path: '/older' });
    const entry = create(EntrySchema, entryInit({ parent: '/spire/agent/x/a', more: { id: 'n' } }));
    const standing = { isActive: true, expiresAtMs: FOREVER };
    index.replace([entry], [[idText(entry.spiffeId), standing]]);
    assert.deepEqual([idsFor(index), index.size, [...index.after('')]], [['n'], 1, [entry]]);
    index.setStanding(`spiffe://${TD}/old`, standing);
    assert.deepEqual(idsFor(index), ['n']);
  });

  it('tells whom a change concerns: those above an entry, and the agents of aliases', () => {
    const index = indexOf(
      { path: '/alias', parent: '/spire/server', selectors: ['x:rack:1'] },
      { path: '/by-alias', parent: '/alias' },
      { path: '/below', parent: '/by-alias' },
      { path: '/direct' },
      { path: '/direct', parent: '/spire/agent/x/b' },
    );
    const told = (entryIds: string[], spiffeIds: string[] = []) => {
      const { ids, aliases } = index.concernedBy([
        ...entryIds.map((id) => ({ kind: 'entry', id }) as const),
        ...spiffeIds.map((spiffeId) => ({ kind: 'identity', spiffeId }) as const),
      ]);
      return [[...ids].map((id) => id.slice(`spiffe://${TD}`.length)).sort(), aliases];
    };
    assert.deepEqual(told(['e2']), [['/alias', '/by-alias'], [['x:rack:1']]]);
    assert.deepEqual(told(['e3', 'none']), [['/spire/agent/x/a'], []]);
    assert.deepEqual(told([], [`spiffe://${TD}/direct`]), [
      ['/spire/agent/x/a', '/spire/agent/x/b'],
      [],
    ]);
  });

  it('agrees with a plain model on a thousand random registries', () => {
    const random = randomFrom(7);
    for (let round = 0; round < 1000; round += 1) {
      const { entries, agents } = randomRegistry(random);
      const index = new EntryIndex(SERVER);
      for (const entry of entries) {
        index.put(entry);
        index.setStanding(idText(entry.spiffeId), { isActive: true, expiresAtMs: FOREVER });
      }
      const gone = entries.filter(() => random(10) === 0);
      for (const { id } of gone) index.remove(id);
      const left = entries.filter((entry) => !gone.includes(entry));
      for (const agent of agents) {
        const expected = modelFor(left, agent);
        assert.deepEqual(idsFor(index, agent), expected, `round ${round}`);
        const single = entries.filter(({ id }) => index.authorisedEntry(agent, id, START));
        assert.deepEqual(single.map(({ id }) => id).sort(), expected, `round ${round}`);
      }
    }
  });
});

/** The definition, by brute force: grow the set of IDs until nothing is added. */
function modelFor(entries: readonly Entry[], agent: IndexedAgent): string[] {
  const own = new Set([...agent.selectors.map(selectorText), `spiffe_id:${agent.id}`]);
  const ids = new Set([agent.id]);
  for (const { parentId, spiffeId, selectors } of entries)
    if (idText(parentId) === SERVER && selectors.every((one) => own.has(selectorText(one))))
      ids.add(idText(spiffeId));
  const found = new Set<string>();
  for (let before = -1; before !== found.size; ) {
    before = found.size;
    for (const { id, parentId, spiffeId } of entries) {
      if (!ids.has(idText(parentId))) continue;
      found.add(id);
      ids.add(idText(spiffeId));
    }
  }
  return [...found].sort();
}

function randomRegistry(random: (below: number) => number) {
  const agents = ['a', 'b', 'c'].map((name) => ({
    id: `spiffe://${TD}/spire/agent/x/${name}`,
    selectors: [0, 1, 2].filter(() => random(2) === 0).map((n) => ({ type: 'x', value: `s${n}` })),
  }));
  const parents = [
    '/spire/server',
    '/spire/agent/x/a',
    '/spire/agent/x/b',
    '/w0',
    '/w1',
    '/w2',
    '/w3',
  ];
  const selectors = ['x:s0', 'x:s1', 'x:s2', `spiffe_id:${agents[0]?.id}`];
  const pick = <T>(list: readonly T[]): T[] => list.slice(random(list.length)).slice(0, 1);
  const entries = Array.from({ length: random(12) }, (_, at) => {
    const chosen = selectors.filter(() => random(3) === 0);
    const init = entryInit({
      path: `/w${random(5)}`,
      parent: pick(parents)[0] ?? '/w0',
      selectors: (chosen.length === 0 ? pick(selectors) : chosen).sort(),
      more: { id: `e${String(at).padStart(2, '0')}` },
    });
    return create(EntrySchema, init);
  });
  return { entries, agents };
}

/** A linear congruential generator, so that a failure can be repeated. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
