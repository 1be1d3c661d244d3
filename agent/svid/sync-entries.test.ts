import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import {
  type SyncAuthorizedEntriesRequestSchema,
  SyncAuthorizedEntriesResponseSchema,
} from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { EntrySync } from './sync-entries.ts';

type Request = MessageInitShape<typeof SyncAuthorizedEntriesRequestSchema>;
type Response = MessageInitShape<typeof SyncAuthorizedEntriesResponseSchema>;

const entry = (id: string, revisionNumber = 0n, createdAt = 1n) => ({
  id,
  spiffeId: { trustDomain: 'example.org', path: `/${id}` },
  selectors: [{ type: 'unix', value: `uid:${id}` }],
  revisionNumber,
  createdAt,
});
const revision = (id: string, revisionNumber = 0n, createdAt = 1n) => ({
  id,
  revisionNumber,
  createdAt,
});

/** A server that answers each request with the next list of pages, and notes what was asked. */
function server(...answers: Response[][]) {
  const asked: Request[] = [];
  async function* call(requests: AsyncIterable<Request>) {
    for await (const request of requests) {
      asked.push(request);
      const pages = answers.shift();
      if (pages === undefined) return;
      for (const page of pages) {
        yield create(SyncAuthorizedEntriesResponseSchema, page);
      }
    }
  }
  return { asked, call };
}

describe('EntrySync', () => {
  const newSync = () => new EntrySync(parseTrustDomain('example.org'));
  const ids = async (sync: EntrySync, call: Parameters<EntrySync['run']>[0]) =>
    (await sync.run(call)).map(({ id }) => id);

  it('takes a small set whole, an empty one too', async () => {
    const sync = newSync();
    assert.deepEqual(await ids(sync, server([{ entries: [entry('a'), entry('b')] }]).call), [
      'a',
      'b',
    ]);
    assert.deepEqual(await ids(sync, server([{}]).call), []);
  });

  it('asks first without ids and with a mask that has the revision number', async () => {
    const { asked, call } = server([{}]);
    await newSync().run(call);
    assert.equal(asked.length, 1);
    assert.equal(asked[0]?.ids, undefined);
    assert.equal(asked[0]?.outputMask?.revisionNumber, true);
  });

  it('asks in a large set only for what is new or has another revision or creation time', async () => {
    const sync = newSync();
    await sync.run(server([{ entries: [entry('a'), entry('b'), entry('c'), entry('d')] }]).call);
    const { asked, call } = server(
      [
        { entryRevisions: [revision('a'), revision('b', 1n)], more: true },
        { entryRevisions: [revision('c', 0n, 2n), revision('e')] },
      ],
      [{ entries: [entry('b', 1n), entry('c', 0n, 2n)], more: true }, { entries: [entry('e')] }],
    );
    assert.deepEqual((await ids(sync, call)).sort(), ['a', 'b', 'c', 'e']);
    assert.deepEqual(asked[1]?.ids, ['b', 'c', 'e']);
  });

  it('asks for at most 500 at a time', async () => {
    const all = Array.from({ length: 1100 }, (_, at) => `e${at}`);
    const { asked, call } = server(
      [{ entryRevisions: all.map((id) => revision(id)) }],
      [{ entries: all.slice(0, 500).map((id) => entry(id)) }],
      [{ entries: all.slice(500, 1000).map((id) => entry(id)) }],
      [{ entries: all.slice(1000).map((id) => entry(id)) }],
    );
    assert.equal((await newSync().run(call)).length, 1100);
    assert.deepEqual(
      asked.slice(1).map((request) => request.ids?.length),
      [500, 500, 100],
    );
  });

  it('does not ask again for an entry that it does not serve', async () => {
    const sync = newSync();
    await sync.run(server([{ entries: [{ ...entry('a'), storeSvid: true }] }]).call);
    const { asked, call } = server([{ entryRevisions: [revision('a')] }]);
    assert.deepEqual(await sync.run(call), []);
    assert.equal(asked.length, 1);
  });

  it('goes by the set of the last sync that succeeded when one breaks off', async () => {
    const sync = newSync();
    await sync.run(server([{ entries: [entry('a')] }]).call);
    const broken = server([{ entryRevisions: [revision('a'), revision('b')] }]);
    await assert.rejects(sync.run(broken.call), { code: 'PROTOCOL_VIOLATION' });
    const { asked, call } = server([{ entryRevisions: [revision('a')] }]);
    assert.deepEqual(await ids(sync, call), ['a']);
    assert.equal(asked.length, 1);
  });
});
