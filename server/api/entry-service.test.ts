import assert from 'node:assert/strict';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { entryInit } from '../../test/fixtures/registry-world.ts';
import { CALL, firstSync, RunningServer, until } from '../../test/fixtures/running-server.ts';

describe('entryService', () => {
  let server: RunningServer;
  before(async () => {
    server = await RunningServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  it('pages a large set of entries by revision, and then by id', async () => {
    const { svid, channel } = await server.newAgent();
    const all = Array.from({ length: 501 }, (_, n) =>
      entryInit({ path: `/many/${n}`, parent: svid.id.path }),
    );
    await server.admin(Entry).batchCreateEntry({ entries: all }, CALL);
    async function* requests() {
      yield { outputMask: { spiffeId: true, revisionNumber: true } };
      await until(async () => revisions.length === 501);
      yield { ids: [...revisions.slice(0, 3), 'unknown'] };
    }
    const revisions: string[] = [];
    const entries = [];
    const pages: boolean[] = [];
    for await (const message of channel.client(Entry).syncAuthorizedEntries(requests(), CALL)) {
      revisions.push(...message.entryRevisions.map(({ id }) => id));
      entries.push(...message.entries);
      pages.push(message.more);
    }
    assert.deepEqual(pages, [true, false, false]);
    assert.deepEqual(
      entries.map(({ id }) => id),
      revisions.slice(0, 3),
    );
    assert.ok(entries.every(({ selectors, spiffeId }) => selectors.length === 0 && spiffeId));
    for (const wrong of [{ ids: ['a'] }, { outputMask: { spiffeId: true } }])
      await assert.rejects(firstSync(channel, wrong), { status: 'INVALID_ARGUMENT' });
  });

  it('answers each item of a batch by itself, in order', async () => {
    const rpc = server.admin(Entry);
    const good = entryInit({ path: '/batch/a', more: { hint: 'h' } });
    const outputMask = { hint: true };
    const entries = [good, entryInit({ path: '/spire/x' }), good, entryInit({ path: '/batch/b' })];
    const created = await rpc.batchCreateEntry({ entries, outputMask }, CALL);
    assert.deepEqual(
      created.results.map(({ status, entry }) => [status?.code, entry?.hint, entry?.spiffeId]),
      [
        [0, 'h', undefined],
        [3, undefined, undefined],
        [6, 'h', undefined],
        [0, '', undefined],
      ],
    );
    const id = created.results[0]?.entry?.id ?? '';
    assert.equal(created.results[2]?.entry?.id, id);

    const updates = [{ id, hint: 'new' }, { id: 'unknown' }, { id: '' }];
    const inputMask = { hint: true };
    const updated = await rpc.batchUpdateEntry({ entries: updates, inputMask }, CALL);
    assert.deepEqual(
      updated.results.map(({ status }) => status?.code),
      [0, 5, 5],
    );
    assert.deepEqual(
      [updated.results[0]?.entry?.hint, updated.results[0]?.entry?.spiffeId?.path],
      ['new', '/batch/a'],
    );
    const filter = { byHint: 'new' };
    assert.equal((await rpc.countEntries({ filter }, CALL)).count, 1);
    assert.equal((await rpc.listEntries({ filter }, CALL)).entries[0]?.id, id);

    const deleted = await rpc.batchDeleteEntry({ ids: [id, id, ''] }, CALL);
    assert.deepEqual(
      deleted.results.map(({ id: of, status }) => [of, status?.code]),
      [
        [id, 0],
        [id, 5],
        ['', 3],
      ],
    );
    await assert.rejects(rpc.getEntry({ id }, CALL), { status: 'NOT_FOUND' });
  });

  it('gives each entry once by pages, while others come and go', async () => {
    const rpc = server.admin(Entry);
    const made = (from: number, count: number) =>
      Array.from({ length: count }, (_, n) =>
        entryInit({ path: `/paged/${from + n}`, more: { hint: 'paged', id: `paged-${from + n}` } }),
      );
    await rpc.batchCreateEntry({ entries: made(20, 10) }, CALL);
    const seen: string[] = [];
    let pageToken = '';
    do {
      const request = { filter: { byHint: 'paged' }, pageSize: 4, pageToken, outputMask: {} };
      const page = await rpc.listEntries(request, CALL);
      seen.push(...page.entries.map(({ id }) => id));
      pageToken = page.nextPageToken;
      if (seen.length !== 4) continue;
      await rpc.batchCreateEntry({ entries: [...made(10, 2), ...made(40, 1)] }, CALL);
      await rpc.batchDeleteEntry({ ids: ['paged-20', 'paged-29'] }, CALL);
    } while (pageToken !== '');
    const stayed = [20, 21, 22, 23, 24, 25, 26, 27, 28, 40].map((n) => `paged-${n}`);
    assert.deepEqual(seen, stayed);
  });

  it('refuses an empty set and a malformed one in a filter', async () => {
    const filters = [
      { bySelectors: { selectors: [] } },
      { byFederatesWith: { trustDomains: [] } },
      { byFederatesWith: { trustDomains: ['no name'] } },
      { bySpiffeId: { trustDomain: 'other.org', path: '/a' } },
      { byParentId: {} },
    ];
    for (const filter of filters) {
      const refused = { status: 'INVALID_ARGUMENT', message: /malformed filter/ };
      await assert.rejects(server.admin(Entry).listEntries({ filter }, CALL), refused);
      await assert.rejects(server.admin(Entry).countEntries({ filter }, CALL), refused);
    }
  });

  it('lets operators set what registrars may not', async () => {
    const more = { admin: true, downstream: true, storeSvid: true, hint: 'flags' };
    const entry = await server.createEntry(entryInit({ path: '/flags', more }));
    assert.deepEqual([entry.admin, entry.downstream, entry.storeSvid], [true, true, true]);
    const filter = { byDownstream: true };
    const { entries } = await server.admin(Entry).listEntries({ filter }, CALL);
    assert.deepEqual(
      entries.map(({ id }) => id),
      [entry.id],
    );
  });
});
