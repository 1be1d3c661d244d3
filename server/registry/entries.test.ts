import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { ListEntriesRequest_FilterSchema as FilterSchema } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import {
  type EntryMask,
  EntryMaskSchema,
  EntrySchema,
} from '../../proto/gen/spire/api/types/entry_pb.ts';
import { onEachStore } from '../../test/fixtures/each-store.ts';
import {
  type EntryInit,
  entryInit,
  OPERATOR,
  RegistryWorld,
  TD,
} from '../../test/fixtures/registry-world.ts';
import { entryPredicate } from './entry-filters.ts';
import { EntryIndex, idText } from './entry-index.ts';
import { joinTokenHandle } from './join-token-ids.ts';
import { RegistryChanges } from './registry-changes.ts';

onEachStore('Entries', (fresh) => {
  let world: RegistryWorld;
  beforeEach(async () => {
    world = await RegistryWorld.open({ store: await fresh().open() });
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const create1 = (init: EntryInit) => world.createEntry(init);
  const update = (init: EntryInit, mask?: Partial<EntryMask>) =>
    world.store.transaction((tx) =>
      world.entries.update(
        tx,
        create(EntrySchema, init),
        mask && create(EntryMaskSchema, mask as MessageInitShape<typeof EntryMaskSchema>),
        { actor: OPERATOR },
      ),
    );
  const remove = (id: string) =>
    world.store.transaction((tx) => world.entries.delete(tx, id, { actor: OPERATOR }));

  describe('create', () => {
    it('gives an id, revision 0 and the time, and makes the identity record from the defaults', async () => {
      const entry = await create1(entryInit({}));
      assert.match(
        entry.id,
        /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
      );
      assert.deepEqual([entry.revisionNumber, entry.createdAt], [0n, 1767225600n]);
      const row = await world.store.get('select owner, kind, status from identities');
      assert.deepEqual(row, { owner: 'ana@example.org', kind: 'service', status: 'active' });
    });

    it('refuses an ID without identity record where there are no defaults, and says what to set', async () => {
      await using bare = await RegistryWorld.open({
        defaults: 'none',
        store: await fresh().open(),
      });
      await assert.rejects(bare.createEntry(entryInit({})), {
        code: 'FAILED_PRECONDITION',
        message: /registration\.defaults/,
      });
      assert.equal(bare.index.size, 0);
    });

    it('returns a similar entry as it stands, whatever the order of selectors and the TTL', async () => {
      const selectors = ['unix:uid:1000', 'unix:gid:5'];
      const first = await create1(entryInit({ selectors }));
      const again = await world.store.transaction((tx) =>
        world.entries.create(
          tx,
          entryInit({ selectors: [...selectors].reverse(), more: { x509SvidTtl: 60 } }),
          { actor: OPERATOR },
        ),
      );
      assert.deepEqual([again.isNew, again.entry], [false, first]);
    });

    it('takes a subset of the selectors for another entry', async () => {
      const first = await create1(entryInit({ selectors: ['unix:uid:1', 'unix:gid:1'] }));
      const other = await create1(entryInit({ selectors: ['unix:uid:1'] }));
      assert.notEqual(other.id, first.id);
    });

    it('makes one entry out of a hundred concurrent creations', async () => {
      const all = await Promise.all(
        Array.from({ length: 100 }, () =>
          world.store.transaction((tx) =>
            world.entries.create(tx, entryInit({}), { actor: OPERATOR }),
          ),
        ),
      );
      assert.equal(all.filter(({ isNew }) => isNew).length, 1);
    });

    it('refuses an id that is taken', async () => {
      await create1(entryInit({ more: { id: 'one' } }));
      await assert.rejects(create1(entryInit({ path: '/other', more: { id: 'one' } })), {
        code: 'ALREADY_EXISTS',
      });
    });

    const refused: [string, EntryInit, string?][] = [
      ['a SPIFFE ID under /spire', entryInit({ path: '/spire/agent/x' })],
      ['S1: a SPIFFE ID under /writ', entryInit({ path: '/writ/gateway/a' })],
      [
        'another trust domain',
        { ...entryInit({}), spiffeId: { trustDomain: 'other.org', path: '/x' } },
      ],
      [
        'a trust domain with a path in it',
        { ...entryInit({}), spiffeId: { trustDomain: `${TD}/a`, path: '/x' } },
      ],
      ['no SPIFFE ID', omit('spiffeId')],
      ['an empty path', entryInit({ path: '' })],
      ['a trailing slash', entryInit({ path: '/web/' })],
      ['a parent segment', entryInit({ path: '/a/../b' })],
      ['percent-encoding', entryInit({ path: '/a%20b' })],
      ['a query', entryInit({ path: '/a?b' })],
      ['no parent', omit('parentId')],
      [
        'a parent of another trust domain',
        { ...entryInit({}), parentId: { trustDomain: 'b', path: '/x' } },
      ],
      ['no selectors', entryInit({ selectors: [] })],
      [
        'a selector type with a colon',
        { ...entryInit({}), selectors: [{ type: 'a:b', value: 'c' }] },
      ],
      ['a selector without type', { ...entryInit({}), selectors: [{ type: '', value: 'c' }] }],
      ['a selector without value', { ...entryInit({}), selectors: [{ type: 'unix', value: '' }] }],
      ['a negative X509-SVID TTL', entryInit({ more: { x509SvidTtl: -1 } })],
      ['a negative JWT-SVID TTL', entryInit({ more: { jwtSvidTtl: -1 } })],
      ['a hint of 1025 bytes', entryInit({ more: { hint: 'x'.repeat(1025) } })],
      ['an id of 256 characters', entryInit({ more: { id: 'x'.repeat(256) } })],
      ['an id with a slash', entryInit({ more: { id: 'a/b' } })],
      ['an empty DNS label', entryInit({ more: { dnsNames: ['a..b'] } })],
      ['a DNS name that ends with a dot', entryInit({ more: { dnsNames: ['a.b.'] } })],
      ['a wildcard that is not the first label', entryInit({ more: { dnsNames: ['a.*.b'] } })],
      ['a wildcard alone', entryInit({ more: { dnsNames: ['*'] } })],
      ['two wildcards', entryInit({ more: { dnsNames: ['*.*.b'] } })],
      ['a DNS name that is not ASCII', entryInit({ more: { dnsNames: ['\u00e9.org'] } })],
      ['a DNS label that is no punycode', entryInit({ more: { dnsNames: ['xn--abc.org'] } })],
      ['a DNS label of no known encoding', entryInit({ more: { dnsNames: ['ab--cd.org'] } })],
      ['a DNS name twice', entryInit({ more: { dnsNames: ['a.b', 'a.b'] } }), 'ALREADY_EXISTS'],
      ['a negative end', entryInit({ more: { expiresAt: -1n } })],
      [
        'an unknown federated trust domain',
        entryInit({ more: { federatesWith: ['other.org'] } }),
        'FAILED_PRECONDITION',
      ],
      [
        'its own trust domain as a federated one, by its ID',
        entryInit({ more: { federatesWith: [`spiffe://${TD}`] } }),
      ],
      ['its own trust domain as a federated one', entryInit({ more: { federatesWith: [TD] } })],
      [
        'store_svid with two selector types',
        entryInit({ selectors: ['a:b', 'c:d'], more: { storeSvid: true } }),
      ],
      [
        'store_svid that is issued on demand',
        entryInit({
          more: { storeSvid: true, additionalAttributes: { disableX509SvidPrefetch: true } },
        }),
      ],
      [
        '257 federated trust domains',
        entryInit({ more: { federatesWith: Array.from({ length: 257 }, (_, n) => `${n}.org`) } }),
      ],
      ['a selector twice', entryInit({ selectors: ['a:b', 'a:b'] }), 'ALREADY_EXISTS'],
    ];
    for (const [what, init, code = 'INVALID_ARGUMENT'] of refused) {
      it(`refuses ${what}`, async () => {
        await assert.rejects(create1(init), { code });
        assert.deepEqual(await world.store.all('select 1 from entries'), []);
      });
    }

    const tools = ['ssh', 'scp', 'sftp', 'node', 'java', 'python', 'python3', 'python3.11'];
    for (const tool of tools) {
      it(`S14 refuses a program that is ${tool}, which any program can run`, async () => {
        const path = `unix:path:/usr/bin/${tool}`;
        const refusal = { code: 'INVALID_ARGUMENT', message: /name the program itself/ };
        for (const selectors of [[path], [path, 'unix:uid:1000']])
          await assert.rejects(create1(entryInit({ selectors })), refusal);
        const entry = await create1(entryInit({}));
        const selectors = [{ type: 'unix', value: path.slice('unix:'.length) }];
        await assert.rejects(update({ id: entry.id, selectors }, { selectors: true }), refusal);
      });
    }

    it('S14 takes a program of its own, whatever it is called like, and a tool beside it', async () => {
      const own = [
        '/opt/ssh/deploy',
        '/usr/bin/nodejs-app',
        '/usr/bin/python3.11-x',
        '/opt/node.js',
      ];
      for (const path of own) await create1(entryInit({ selectors: [`unix:path:${path}`] }));
      const both = ['unix:path:/opt/deploy', 'unix:path:/usr/bin/ssh'];
      await create1(entryInit({ selectors: both }));
      await create1(entryInit({ selectors: ['docker:path:/usr/bin/ssh'] }));
    });

    it('lets reserved parents, a DNS name with a space and an id of 255 characters through', async () => {
      const id = 'x'.repeat(255);
      const entry = await create1(
        entryInit({
          parent: '/spire/server',
          more: { id, dnsNames: ['a b'], hint: 'x'.repeat(1024) },
        }),
      );
      assert.equal(entry.id, id);
    });

    it('takes wildcards, underscores, upper case and punycode in DNS names, as SPIRE does', async () => {
      const dnsNames = ['*.a.org', 'b_c.A.org', 'xn--bcher-kva.org', '1.2.3.4'];
      assert.deepEqual((await create1(entryInit({ more: { dnsNames } }))).dnsNames, dnsNames);
    });

    it('keeps the handle of a join token that is named as parent or selector, never the token', async () => {
      const token = '0765f368-6166-441e-9a87-e01c3e3ddda6';
      const agent = `spiffe://${TD}/spire/agent/join_token/${joinTokenHandle(token)}`;
      const named = `/spire/agent/join_token/${token}`;
      const child = await create1(entryInit({ parent: named }));
      const alias = await create1(
        entryInit({
          path: '/node',
          parent: '/spire/server',
          selectors: [`spiffe_id:spiffe://${TD}${named}`],
        }),
      );
      assert.equal(idText(child.parentId), agent);
      assert.equal(alias.selectors[0]?.value, agent);
      const authorised = world.index.authorisedFor({ id: agent, selectors: [] }, world.clock.now());
      assert.deepEqual(
        authorised.map(({ id }) => id),
        [child.id],
      );
      const filter = { byParentId: { trustDomain: TD, path: named } };
      assert.ok(entryPredicate(create(FilterSchema, filter), TD)(child));
    });

    it("refuses a DNS name that is a gateway's, in any case and by wildcard", async () => {
      await world.store.transaction((tx) =>
        tx.run(
          `insert into gateways (id, name, backends, names, created_at_ms) values ('g', 'g', '[]', ?, 0)`,
          JSON.stringify(['gw.example.org', '10.0.0.7']),
        ),
      );
      for (const name of ['gw.example.org', 'GW.example.org', '*.example.org', '10.0.0.7'])
        await assert.rejects(create1(entryInit({ more: { dnsNames: [name] } })), {
          code: 'PERMISSION_DENIED',
        });
      assert.ok(await create1(entryInit({ more: { dnsNames: ['web.example.org'] } })));
    });
  });

  describe('update', () => {
    it('changes the fields of the mask alone and raises the revision', async () => {
      const { id } = await create1(entryInit({ more: { hint: 'old', x509SvidTtl: 60 } }));
      const entry = await update({ id, hint: 'new', x509SvidTtl: 90 }, { hint: true });
      assert.deepEqual([entry.hint, entry.x509SvidTtl, entry.revisionNumber], ['new', 60, 1n]);
      assert.deepEqual(world.index.get(id), entry);
    });

    it('changes every field where there is no mask, but not id and creation time', async () => {
      const { id, createdAt } = await create1(entryInit({ more: { hint: 'old' } }));
      const entry = await update({ ...entryInit({ path: '/other' }), id, createdAt: 5n });
      assert.deepEqual(
        [entry.hint, entry.createdAt, entry.spiffeId?.path],
        ['', createdAt, '/other'],
      );
    });

    it('answers NOT_FOUND for an unknown id, ALREADY_EXISTS for what would be similar', async () => {
      await create1(entryInit({}));
      const { id } = await create1(entryInit({ path: '/b' }));
      await assert.rejects(update({ ...entryInit({}), id: 'nope' }), { code: 'NOT_FOUND' });
      await assert.rejects(update({ ...entryInit({}), id }), { code: 'ALREADY_EXISTS' });
    });

    it('ends sessions if it changes who gets the SPIFFE ID, and only then', async () => {
      const { id } = await create1(entryInit({}));
      await update({ id, hint: 'x' }, { hint: true });
      assert.deepEqual(await world.revoked(), []);
      await update({ id, selectors: [{ type: 'unix', value: 'uid:0' }] }, { selectors: true });
      assert.deepEqual(await world.revoked(), [`entryId ${id} entry.update`]);
    });

    it('ends sessions if it sets an end that has passed', async () => {
      const { id } = await create1(entryInit({}));
      await update({ id, expiresAt: 1n }, { expiresAt: true });
      assert.deepEqual(await world.revoked(), [`entryId ${id} entry.update`]);
    });

    it("S1: leaves a gateway's entry to the server", async () => {
      const reserved = entryInit({ path: '/writ/gateway/a' });
      const { id } = await world.createEntry(reserved, { allowReserved: true });
      await assert.rejects(update({ id, hint: 'x' }, { hint: true }), { code: 'INVALID_ARGUMENT' });
    });
  });

  describe('delete', () => {
    it('takes the entry away and ends its sessions, with an event that names the operator', async () => {
      const { id } = await create1(entryInit({}));
      assert.equal(await remove(id), true);
      assert.deepEqual([world.index.size, await remove(id)], [0, false]);
      assert.deepEqual(await world.revoked(), [`entryId ${id} entry.delete`]);
      const event = (await world.events()).at(-1);
      assert.deepEqual(
        [event?.type, event?.entryId, event?.actor?.uid, event?.actor?.executable],
        ['entry.deleted', id, 7, '/bin/op'],
      );
    });
  });

  it('shows in the index what is committed, and after a restart the same', async () => {
    const kept = await create1(entryInit({}));
    const broken = world.store.transaction(async (tx) => {
      await world.entries.create(tx, entryInit({ path: '/lost' }), { actor: OPERATOR });
      throw new Error('no');
    });
    await assert.rejects(broken);
    assert.equal(world.index.size, 1);
    const index = new EntryIndex(`spiffe://${TD}/spire/server`);
    await new RegistryChanges({ clock: world.clock, index }).load(world.store);
    assert.deepEqual([...index.after('')], [kept]);
  });
});

function omit(field: 'spiffeId' | 'parentId'): EntryInit {
  const { [field]: _, ...rest } = entryInit({});
  return rest;
}
