import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { onEachStore, type StoreKind } from '../../test/fixtures/each-store.ts';
import { entryInit, OPERATOR, RegistryWorld, TD } from '../../test/fixtures/registry-world.ts';
import { EntryIndex } from './entry-index.ts';
import { RegistryChanges } from './registry-changes.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const WEB = SpiffeId.parse(`spiffe://${TD}/web`);

onEachStore('RegistryChanges', (store, kind) => {
  let world: RegistryWorld;
  beforeEach(async () => {
    world = await RegistryWorld.open({ store: await store().open() });
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const seqs = async () => {
    const rows = await world.store.all('select seq from entry_events order by seq');
    return rows.map(({ seq }) => Number(seq));
  };

  it('counts changes without gaps, whatever rolls back', async () => {
    await world.createEntry(entryInit({}));
    const broken = world.store.transaction(async (tx) => {
      await world.entries.create(tx, entryInit({ path: '/b' }), { actor: OPERATOR });
      throw new Error('no');
    });
    await assert.rejects(broken);
    await world.createEntry(entryInit({ path: '/c' }));
    assert.deepEqual(await seqs(), [1, 2]);
    assert.equal(world.changes.head.value, 2n);
  });

  it('drops what is older than a day, but never the newest', async () => {
    await world.createEntry(entryInit({}));
    await world.createEntry(entryInit({ path: '/b' }));
    world.clock.advance(DAY_MS - 1);
    await world.createEntry(entryInit({ path: '/c' }));
    world.clock.advance(2);
    await world.store.transaction((tx) => world.changes.prune(tx));
    assert.deepEqual(await seqs(), [3]);
    world.clock.advance(2 * DAY_MS);
    await world.store.transaction((tx) => world.changes.prune(tx));
    assert.deepEqual(await seqs(), [3]);
    await world.createEntry(entryInit({ path: '/d' }));
    assert.deepEqual(await seqs(), [3, 4]);
  });

  it('fills the index of a server that starts', async () => {
    const { id } = await world.createEntry(entryInit({}));
    await world.identities.setStatus(WEB, { status: 'suspended', reason: '' }, OPERATOR);
    const index = new EntryIndex(`spiffe://${TD}/spire/server`);
    const changes = new RegistryChanges({ clock: world.clock, index });
    await changes.load(world.store);
    assert.deepEqual([index.get(id)?.id, changes.head.value], [id, 2n]);
    const agent = { id: `spiffe://${TD}/spire/agent/x509pop/a`, selectors: [] };
    assert.deepEqual(index.authorisedFor(agent, world.clock.now()), []);
  });

  if (kind === ('postgres' satisfies StoreKind)) {
    describe('of several servers', () => {
      let other: RegistryWorld;
      beforeEach(async () => {
        other = await RegistryWorld.open({ store: await store().open() });
      });
      afterEach(() => other[Symbol.asyncDispose]());
      const catchUp = () => world.changes.catchUp(world.store);
      const agent = { id: `spiffe://${TD}/spire/agent/x509pop/a`, selectors: [] };
      const served = () => world.index.authorisedFor(agent, world.clock.now()).map(({ id }) => id);

      it('follow what another has made, changed, suspended and deleted', async () => {
        const { id } = await other.createEntry(entryInit({}));
        assert.deepEqual(served(), []);
        await catchUp();
        assert.deepEqual(served(), [id]);
        await other.identities.setStatus(WEB, { status: 'suspended', reason: '' }, OPERATOR);
        await catchUp();
        assert.deepEqual(served(), []);
        await other.identities.setStatus(WEB, { status: 'active', reason: '' }, OPERATOR);
        await catchUp();
        assert.deepEqual(served(), [id]);
        await other.store.transaction((tx) => other.entries.delete(tx, id, { actor: OPERATOR }));
        await catchUp();
        assert.deepEqual([served(), world.index.size], [[], 0]);
      });

      it('wake the agents that the change of another concerns, and no others', async () => {
        using wake = world.changes.wakes.open(agent);
        using stranger = world.changes.wakes.open({ ...agent, id: `${agent.id}x` });
        await other.createEntry(entryInit({}));
        await catchUp();
        assert.deepEqual([wake.count.value, stranger.count.value], [1n, 0n]);
        await other.attest('a');
        await catchUp();
        assert.deepEqual([wake.count.value, stranger.count.value], [2n, 0n]);
      });

      it('show their own changes at once, also ahead of those of others that came first', async () => {
        const first = await other.createEntry(entryInit({}));
        const second = await world.createEntry(entryInit({ path: '/b' }));
        assert.equal(world.index.get(second.id)?.id, second.id);
        assert.equal(world.changes.head.value, 0n);
        await catchUp();
        assert.equal(world.changes.head.value, 2n);
        assert.deepEqual(served().sort(), [first.id, second.id].sort());
      });

      it('do not take an own change back while what came before it is read', async () => {
        const { id } = await world.createEntry(entryInit({}));
        await catchUp();
        // Another server's change comes between; what is read meanwhile is older than the own suspension.
        await other.createEntry(entryInit({ path: '/b' }));
        const { store: real } = world;
        const suspended = world.identities;
        const reading: typeof real = Object.create(real, {
          all: {
            value: async (sql: string, ...parameters: (string | number | bigint)[]) => {
              const rows = await real.all(sql, ...parameters);
              await suspended.setStatus(WEB, { status: 'suspended', reason: '' }, OPERATOR);
              return rows;
            },
          },
        });
        await world.changes.catchUp(reading);
        assert.ok(!served().includes(id));
        await catchUp();
        assert.ok(!served().includes(id));
        assert.equal(world.changes.head.value, 3n);
      });

      it('follow thousands of changes, a part at a time', async () => {
        await other.store.transaction((tx) =>
          other.entries.createAll(
            tx,
            Array.from({ length: 1300 }, (_, n) => entryInit({ path: `/w${n}` })),
            { actor: OPERATOR },
          ),
        );
        await catchUp();
        assert.deepEqual([world.index.size, world.changes.head.value], [1300, 1300n]);
      });

      it('agree after many changes by all at once', async () => {
        const makers = [world, other].flatMap((one, side) =>
          Array.from({ length: 40 }, (_, n) => ({ one, path: `/w${(n + side) % 23}`, n })),
        );
        await Promise.all(
          makers.map(async ({ one, path, n }) => {
            const { id } = await one.createEntry(entryInit({ path, selectors: [`unix:uid:${n}`] }));
            if (n % 3 === 0)
              await one.store.transaction((tx) => one.entries.delete(tx, id, { actor: OPERATOR }));
            await one.changes.catchUp(one.store);
          }),
        );
        await Promise.all([world, other].map((one) => one.changes.catchUp(one.store)));
        const rows = await world.store.all('select id from entries order by id');
        for (const { index, changes } of [world, other]) {
          assert.deepEqual(
            [...index.after('')].map(({ id }) => ({ id })),
            rows,
          );
          assert.equal(changes.head.value, BigInt((await seqs()).length));
        }
      });

      it('read all anew if what they missed is not in the log any more', async () => {
        await world.createEntry(entryInit({ path: '/old' }));
        await other.createEntry(entryInit({}));
        await other.createEntry(entryInit({ path: '/c' }));
        await other.store.transaction(async (tx) => {
          await tx.run(`delete from entries where spiffe_id like '%/old'`);
          await tx.run('delete from entry_events where seq < 3');
        });
        await catchUp();
        assert.deepEqual([world.index.size, world.changes.head.value], [2, 3n]);
      });
    });
  }
});
