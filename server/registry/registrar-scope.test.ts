import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import {
  BatchCreateEntryRequestSchema,
  BatchDeleteEntryRequestSchema,
  BatchUpdateEntryRequestSchema,
  CountEntriesRequestSchema,
  GetEntryRequestSchema,
  ListEntriesRequestSchema,
} from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { ResourceSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { registrarInit } from '../../test/fixtures/registrar-init.ts';
import {
  type EntryInit,
  entryInit,
  OPERATOR,
  RegistryWorld,
  TD,
} from '../../test/fixtures/registry-world.ts';
import { Resources } from '../access/resources.ts';
import type { Caller } from '../api/callers.ts';
import { entryService } from '../api/entry-service.ts';
import { identityFor } from './identity-records.ts';
import { RegistrarScopes } from './registrar-scope.ts';
import { findRegistrar } from './registrars.ts';

const CI = SpiffeId.parse(`spiffe://${TD}/ci`);
const at = (path: string) => `spiffe://${TD}${path}`;
const TTLS = { x509Seconds: 3600, jwtSeconds: 300 };
const OWN = {
  ...{ owner: 'team-apps', purpose: 'the apps', environment: 'prod', kind: 'service' },
  expiresInSeconds: 3600,
};

/** A registrar at the entry API, as it stands behind the guard. */
class Desk {
  readonly world: RegistryWorld;
  readonly adminIds = new Set<string>();
  readonly #service: ReturnType<typeof entryService>;
  #caller: Caller | undefined;

  constructor(world: RegistryWorld) {
    this.world = world;
    const { refusals } = world;
    const { adminIds } = this;
    const registrarScopes = new RegistrarScopes({ refusals, adminIds, defaultTtls: TTLS });
    this.#service = entryService({ ...world, trustDomain: TD, registrarScopes });
  }

  async open(more: Parameters<typeof registrarInit>[0] = {}): Promise<this> {
    await this.world.registrars.put(registrarInit({ defaults: OWN, ...more }), OPERATOR);
    const record = await findRegistrar(this.world.store, CI);
    assert.ok(record);
    this.#caller = { kind: 'registrar', id: CI, address: '10.0.0.1:5', record };
    return this;
  }

  /** `code message` of each item. */
  async create(...entries: readonly EntryInit[]): Promise<string[]> {
    const request = create(BatchCreateEntryRequestSchema, { entries: [...entries] });
    const { results = [] } = await this.#service.batchCreateEntry(request, this.#call());
    return results.map(({ status }) => `${status?.code} ${status?.message}`);
  }

  async update(entry: EntryInit, inputMask?: Readonly<Record<string, boolean>>): Promise<string> {
    const init = { entries: [entry], ...(inputMask && { inputMask }) };
    const request = create(BatchUpdateEntryRequestSchema, init);
    const { results = [] } = await this.#service.batchUpdateEntry(request, this.#call());
    return `${results[0]?.status?.code} ${results[0]?.status?.message}`;
  }

  async delete(id: string): Promise<string> {
    const request = create(BatchDeleteEntryRequestSchema, { ids: [id] });
    const { results = [] } = await this.#service.batchDeleteEntry(request, this.#call());
    return `${results[0]?.status?.code} ${results[0]?.status?.message}`;
  }

  /** Paths of what it sees, by listing, counting and getting. */
  async sees(): Promise<string[]> {
    const request = create(ListEntriesRequestSchema, { pageSize: 1 });
    const paths: string[] = [];
    do {
      const page = await this.#service.listEntries(request, this.#call());
      paths.push(...(page.entries ?? []).map(({ spiffeId }) => spiffeId?.path ?? ''));
      request.pageToken = page.nextPageToken ?? '';
    } while (request.pageToken !== '');
    const count = create(CountEntriesRequestSchema);
    assert.equal((await this.#service.countEntries(count, this.#call())).count, paths.length);
    for (const { id, spiffeId } of this.world.index.after('')) {
      const get = create(GetEntryRequestSchema, { id });
      const found = await this.#service.getEntry(get, this.#call()).catch(() => undefined);
      assert.equal(found !== undefined, paths.includes(spiffeId?.path ?? ''));
    }
    return paths.sort();
  }

  /** Reasons and bounds of the refusals that were told. */
  async refusals(): Promise<(string | undefined)[][]> {
    await this.world.refusals.flush();
    const events = await this.world.events();
    return events
      .filter(({ type }) => type === 'registrar.refused')
      .map(({ actor, spiffeId, attributes: { bound, count } }) => [
        ...[actor?.kind, actor?.spiffeId, spiffeId, bound, count],
      ]);
  }

  #call() {
    if (this.#caller === undefined) throw new Error('the desk is not open');
    const { signal } = new AbortController();
    const call = { requestId: 'r_1', method: '', metadata: new Map() };
    return { caller: this.#caller, ...call, signal };
  }
}

describe('RegistrarScope', () => {
  let world: RegistryWorld;
  let desk: Desk;
  beforeEach(async () => {
    world = await RegistryWorld.open({ defaults: 'none' });
    desk = new Desk(world);
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const identify = (path: string, owner = 'somebody-else') =>
    world.store.transaction((tx) =>
      world.identities.put(
        tx,
        SpiffeId.parse(at(path)),
        {
          ...{ owner, purpose: 'p', environment: 'prod', kind: 'service', labels: {} },
          expiresAt: new Date(world.clock.now().getTime() + 3_600_000),
        },
        OPERATOR,
      ),
    );
  /** An operator's entry. */
  const make = async (path: string, init: Parameters<typeof entryInit>[0] = {}) => {
    await identify(path);
    return (await world.createEntry(entryInit({ path, ...init }))).id;
  };
  const grantTo = (path: string) =>
    world.store.transaction((tx) =>
      new Resources(world.store).put(
        tx,
        create(ResourceSchema, {
          name: 'g',
          body: { case: 'grant', value: { name: 'g', identity: at(path), backend: 'b' } },
        }),
        world.clock.now(),
      ),
    );
  const web = entryInit({ path: '/apps/web' });

  it('S15: makes entries within its bounds, and their records from its own defaults', async () => {
    await desk.open();
    assert.deepEqual(await desk.create(web), ['0 OK']);
    const record = await identityFor(world.store, at('/apps/web'));
    assert.deepEqual([record?.owner, record?.environment], ['team-apps', 'prod']);
    const made = (await world.events()).find(({ type }) => type === 'entry.created');
    assert.deepEqual([made?.actor?.kind, made?.actor?.spiffeId], ['registrar', CI.toString()]);
  });

  it('S15: makes none without a record if neither it nor the server has defaults', async () => {
    await desk.open({ defaults: undefined });
    assert.match((await desk.create(web))[0] ?? '', /^9 .*no identity record/);
    await identify('/apps/web');
    assert.deepEqual(await desk.create(web), ['0 OK']);
  });

  it('S15: refuses each item beyond a bound by itself, names the bound, and tells it once', async () => {
    await desk.open();
    const statuses = await desk.create(
      entryInit({ path: '/other/a' }),
      web,
      entryInit({ path: '/other/b' }),
      entryInit({ path: '/apps/x', parent: '/spire/server' }),
      entryInit({ path: '/apps/x', more: { admin: true } }),
      entryInit({ path: '/spire/agent/x' }),
      entryInit({ path: '/writ/gateway/x' }),
    );
    const [other, good, , parent, admin, ...reserved] = statuses;
    assert.match(other ?? '', /^7 spiffe_ids: /);
    assert.equal(good, '0 OK');
    assert.match(parent ?? '', /^7 parents: /);
    assert.match(admin ?? '', /^7 admin: /);
    for (const one of reserved) assert.match(one, /^3 .*reserved/);
    const by = ['registrar', CI.toString()];
    assert.deepEqual(await desk.refusals(), [
      [...by, at('/other/a'), 'spiffe_ids', '2'],
      [...by, at('/apps/x'), 'parents', '1'],
      [...by, at('/apps/x'), 'admin', '1'],
    ]);
  });

  it('S15: sees, changes and deletes what lies within its bounds alone', async () => {
    await desk.open();
    const [own, ...foreign] = [
      await make('/apps/web'),
      await make('/other/web'),
      await make('/apps/alias', { parent: '/spire/server', selectors: ['x509pop:a:b'] }),
      await make('/apps/admin', { more: { admin: true } }),
      await make('/apps/nested', { more: { downstream: true } }),
    ];
    assert.deepEqual(await desk.sees(), ['/apps/web']);
    for (const id of foreign) {
      assert.match(await desk.update({ id, hint: '' }, { hint: true }), /^7 [a-z_]+: /);
      assert.match(await desk.delete(id), /^7 [a-z_]+: /);
      assert.notEqual(world.index.get(id), undefined);
    }
    assert.equal(
      await desk.update({ id: own ?? '', x509SvidTtl: 60 }, { x509SvidTtl: true }),
      '0 OK',
    );
    assert.equal(await desk.delete(own ?? ''), '0 OK');
    assert.equal(await desk.delete(own ?? ''), '5 entry not found');
  });

  const moves: [string, RegExp, EntryInit, Readonly<Record<string, boolean>>][] = [
    [
      'to another SPIFFE ID',
      /^7 spiffe_ids/,
      entryInit({ path: '/other/web' }),
      { spiffeId: true },
    ],
    [
      'under another parent',
      /^7 parents/,
      entryInit({ parent: '/spire/server' }),
      { parentId: true },
    ],
    [
      'to other selectors',
      /^7 selectors/,
      entryInit({ selectors: ['k8s:ns:a'] }),
      { selectors: true },
    ],
    ['to power', /^7 admin/, { admin: true }, { admin: true }],
    ['to a longer life', /^7 max_x509_svid_ttl/, { x509SvidTtl: 3601 }, { x509SvidTtl: true }],
  ];
  for (const [where, message, change, mask] of moves) {
    it(`S15: moves no entry ${where}`, async () => {
      await desk.open();
      const id = await make('/apps/web');
      assert.match(await desk.update({ ...change, id }, mask), message);
      assert.equal(world.index.get(id)?.revisionNumber, 0n);
    });
  }

  it('S15: is not told of a similar entry that is beyond its bounds', async () => {
    await desk.open();
    await make('/apps/web', { more: { admin: true } });
    assert.match((await desk.create(web))[0] ?? '', /^7 /);
  });

  it('S15: needs the owner of an ID that holds grants', async () => {
    await desk.open();
    await identify('/apps/web', 'somebody-else');
    await grantTo('/apps/web');
    assert.match((await desk.create(web))[0] ?? '', /^7 owner: .*grants/);
    await identify('/apps/web', 'team-apps');
    assert.deepEqual(await desk.create(web), ['0 OK']);
  });

  it('S15: gives nobody an ID that holds grants by changing the entry', async () => {
    await desk.open();
    const id = await make('/apps/web');
    await grantTo('/apps/web');
    const change = entryInit({ selectors: ['unix:uid:666'] });
    assert.match(await desk.update({ ...change, id }, { selectors: true }), /^7 owner: /);
    assert.equal(await desk.delete(id), '0 OK');
  });

  it('S15: takes no ID of an admin, a registrar or a nested server, though it is in its bounds', async () => {
    await desk.open();
    desk.adminIds.add(at('/apps/ops'));
    await world.registrars.put(registrarInit({ spiffeId: at('/apps/ci') }), OPERATOR);
    await make('/apps/root', { selectors: ['unix:uid:0'], more: { admin: true } });
    await make('/apps/nested', { selectors: ['unix:uid:0'], more: { downstream: true } });
    for (const path of ['/apps/ops', '/apps/ci', '/apps/root', '/apps/nested'])
      assert.match((await desk.create(entryInit({ path })))[0] ?? '', /^7 spiffe_ids: .*that of/);
  });

  it('S15: gives no agent the entries of others that stand below an ID', async () => {
    await desk.open();
    await make('/apps/pool', { parent: '/spire/server', selectors: ['x509pop:a:b'] });
    await make('/apps/step', { parent: '/apps/pool' });
    await make('/secret/vault', { parent: '/apps/step' });
    for (const path of ['/apps/pool', '/apps/step']) {
      const [status] = await desk.create(entryInit({ path, selectors: ['unix:uid:1'] }));
      assert.match(status ?? '', /^7 spiffe_ids: .*below this SPIFFE ID/);
    }
    assert.deepEqual(await desk.create(web), ['0 OK']);
  });

  it('S15: does nothing more once its record is gone', async () => {
    await desk.open();
    await world.registrars.delete(CI, OPERATOR);
    const denied = { code: 'PERMISSION_DENIED' };
    await assert.rejects(desk.create(web), denied);
    await assert.rejects(desk.delete('a'), denied);
    await assert.rejects(desk.sees(), denied);
  });

  it('S15: is held to what its record says now', async () => {
    await desk.open();
    assert.deepEqual(await desk.create(web), ['0 OK']);
    await world.registrars.put(registrarInit({ spiffeIds: [at('/other/*')] }), OPERATOR);
    assert.deepEqual(await desk.sees(), []);
    assert.match((await desk.create(entryInit({ path: '/apps/b' })))[0] ?? '', /^7 spiffe_ids/);
  });
});
