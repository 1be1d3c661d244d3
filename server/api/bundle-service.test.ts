import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import type { Bundle } from '../../identity/bundle.ts';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { spkiOf } from '../../identity/x509/key.ts';
import {
  Bundle as BundleRpc,
  BatchDeleteFederatedBundleRequest_Mode as Mode,
} from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { handMadeCa } from '../../test/fixtures/hand-made-certificate.ts';
import { entryInit, TD } from '../../test/fixtures/registry-world.ts';
import { CALL, firstSync, RunningServer } from '../../test/fixtures/running-server.ts';
import { bundleMessage } from '../registry/bundle-message.ts';

describe('bundleService', () => {
  let server: RunningServer;
  let foreign: Bundle;
  before(async () => {
    server = await RunningServer.start();
    foreign = (await FakeAuthority.create(parseTrustDomain('partner.org'))).bundle.value;
  });
  after(() => server[Symbol.asyncDispose]());

  const rpc = () => server.admin(BundleRpc);
  const of = (trustDomain: string, more: Partial<Bundle> = {}) =>
    bundleMessage({ ...foreign, trustDomain: parseTrustDomain(trustDomain), ...more });
  const codes = ({ results }: { results: readonly { status?: { code: number } | undefined }[] }) =>
    results.map(({ status }) => status?.code);
  const invalid = { status: 'INVALID_ARGUMENT' };
  afterEach(async () => {
    const { bundles } = await rpc().listFederatedBundles({}, CALL);
    const trustDomains = bundles.map(({ trustDomain }) => trustDomain);
    await rpc().batchDeleteFederatedBundle({ trustDomains, mode: Mode.DELETE }, CALL);
  });

  it('creates bundles, each item by itself, and shows what the mask names', async () => {
    const broken = of('broken.org');
    broken.x509Authorities = [{ ...broken.x509Authorities[0], asn1: Buffer.of(1) } as never];
    const noId = of('noid.org');
    noId.jwtAuthorities = noId.jwtAuthorities.map((key) => ({ ...key, keyId: '' }));
    const bundle = [of('a.org'), of('a.org'), of(TD), broken, noId, of('b.org')];
    const named = { ...of('c.org'), trustDomain: 'no name' };
    const request = { bundle: [...bundle, named], outputMask: { sequenceNumber: true } };
    const made = await rpc().batchCreateFederatedBundle(request, CALL);
    assert.deepEqual(codes(made), [0, 6, 3, 3, 3, 0, 3]);
    const [first, second] = made.results;
    assert.deepEqual(
      [first?.bundle?.trustDomain, first?.bundle?.sequenceNumber, first?.bundle?.x509Authorities],
      ['a.org', 1n, []],
    );
    assert.equal(second?.bundle, undefined);
    assert.equal((await rpc().countBundles({}, CALL)).count, 3);
    const shown = await rpc().getFederatedBundle({ trustDomain: 'a.org' }, CALL);
    assert.deepEqual(shown, of('a.org'));
    const byId = await rpc().getFederatedBundle({ trustDomain: 'spiffe://a.org' }, CALL);
    assert.deepEqual(byId, shown);
  });

  it('names what is wrong with a bundle', async () => {
    const wrong = of('a.org');
    wrong.jwtAuthorities = wrong.jwtAuthorities.map((key) => ({ ...key, publicKey: Buffer.of(1) }));
    const { results } = await rpc().batchSetFederatedBundle({ bundle: [wrong] }, CALL);
    assert.match(results[0]?.status?.message ?? '', /jwt_authorities\[0\]/);
    const hint = { ...of('a.org'), refreshHint: -1n };
    assert.deepEqual(codes(await rpc().batchSetFederatedBundle({ bundle: [hint] }, CALL)), [3]);
  });

  it('keeps a sequence number of 64 bits', async () => {
    const bundle = [of('a.org', { sequenceNumber: 2n ** 64n - 1n })];
    await rpc().batchSetFederatedBundle({ bundle }, CALL);
    const found = await rpc().getFederatedBundle({ trustDomain: 'a.org' }, CALL);
    assert.equal(found.sequenceNumber, 2n ** 64n - 1n);
  });

  it('updates the fields of the mask in what is there, and nothing that is not', async () => {
    await rpc().batchCreateFederatedBundle({ bundle: [of('a.org')] }, CALL);
    const change = {
      ...of('a.org', { x509Authorities: [] }),
      refreshHint: 60n,
      sequenceNumber: 9n,
    };
    const updated = await rpc().batchUpdateFederatedBundle(
      { bundle: [change, of('b.org')], inputMask: { refreshHint: true } },
      CALL,
    );
    assert.deepEqual(codes(updated), [0, 5]);
    assert.deepEqual(updated.results[0]?.bundle, { ...of('a.org'), refreshHint: 60n });
    const whole = await rpc().batchUpdateFederatedBundle({ bundle: [change] }, CALL);
    assert.deepEqual(whole.results[0]?.bundle, change);
  });

  it('sets a bundle whether there is one or not', async () => {
    const empty = of('a.org', { x509Authorities: [], jwtAuthorities: [] });
    const set = await rpc().batchSetFederatedBundle({ bundle: [of('a.org'), empty] }, CALL);
    assert.deepEqual(codes(set), [0, 0]);
    assert.deepEqual(await rpc().getFederatedBundle({ trustDomain: 'a.org' }, CALL), empty);
  });

  it('refuses its own trust domain and says NOT_FOUND of others', async () => {
    await assert.rejects(rpc().getFederatedBundle({ trustDomain: TD }, CALL), invalid);
    await assert.rejects(rpc().getFederatedBundle({ trustDomain: 'A B' }, CALL), invalid);
    await assert.rejects(rpc().getFederatedBundle({ trustDomain: 'x.org' }, CALL), {
      status: 'NOT_FOUND',
    });
    const trustDomains = [TD, 'x.org', '/'];
    const { results } = await rpc().batchDeleteFederatedBundle({ trustDomains }, CALL);
    assert.deepEqual(codes({ results }), [3, 5, 3]);
    assert.deepEqual(
      results.map(({ trustDomain }) => trustDomain),
      trustDomains,
    );
    await assert.rejects(
      rpc().batchDeleteFederatedBundle({ trustDomains, mode: 7 as Mode }, CALL),
      invalid,
    );
  });

  it('lists by pages, without its own', async () => {
    const names = ['e.org', 'c.org', 'a.org', 'd.org', 'b.org'];
    await rpc().batchCreateFederatedBundle({ bundle: names.map((name) => of(name)) }, CALL);
    const seen: string[][] = [];
    let pageToken = '';
    do {
      const request = { pageSize: 2, pageToken, outputMask: {} };
      const page = await rpc().listFederatedBundles(request, CALL);
      seen.push(page.bundles.map(({ trustDomain }) => trustDomain));
      assert.ok(page.bundles.every(({ x509Authorities }) => x509Authorities.length === 0));
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    assert.deepEqual(seen, [['a.org', 'b.org'], ['c.org', 'd.org'], ['e.org']]);
    await assert.rejects(rpc().listFederatedBundles({ pageToken: '*' }, CALL), invalid);
  });

  describe('deleting one that entries federate with', () => {
    let id: string;
    const entry = () => server.admin(Entry).getEntry({ id }, CALL);
    const remove = async (mode: Mode) =>
      codes(await rpc().batchDeleteFederatedBundle({ trustDomains: ['a.org'], mode }, CALL));
    beforeEach(async () => {
      await rpc().batchSetFederatedBundle({ bundle: [of('a.org'), of('b.org')] }, CALL);
      const federatesWith = ['spiffe://b.org', 'a.org', 'a.org'];
      ({ id } = await server.createEntry(entryInit({ path: '/fed', more: { federatesWith } })));
    });
    afterEach(() => server.admin(Entry).batchDeleteEntry({ ids: [id] }, CALL));

    it('is refused by RESTRICT', async () => {
      assert.deepEqual(await remove(Mode.RESTRICT), [9]);
      assert.deepEqual((await entry()).federatesWith, ['b.org', 'a.org']);
      await rpc().getFederatedBundle({ trustDomain: 'a.org' }, CALL);
    });

    it('takes the trust domain out of them by DISSOCIATE, a new revision each', async () => {
      assert.deepEqual(await remove(Mode.DISSOCIATE), [0]);
      const { federatesWith, revisionNumber } = await entry();
      assert.deepEqual([federatesWith, revisionNumber], [['b.org'], 1n]);
      assert.deepEqual(await remove(Mode.RESTRICT), [5]);
    });

    it('takes them with it by DELETE', async () => {
      assert.deepEqual(await remove(Mode.DELETE), [0]);
      await assert.rejects(entry(), { status: 'NOT_FOUND' });
    });

    it('goes by what they say now', async () => {
      const update = { id, federatesWith: ['b.org'] };
      const inputMask = { federatesWith: true };
      await server.admin(Entry).batchUpdateEntry({ entries: [update], inputMask }, CALL);
      assert.deepEqual(await remove(Mode.RESTRICT), [0]);
    });
  });

  it('lets entries federate with trust domains alone whose bundles are here', async () => {
    await rpc().batchSetFederatedBundle({ bundle: [of('a.org')] }, CALL);
    const entries = [['a.org'], ['x.org'], [TD], ['no name']].map((federatesWith, at) =>
      entryInit({ path: `/only/${at}`, more: { federatesWith } }),
    );
    const made = await server.admin(Entry).batchCreateEntry({ entries }, CALL);
    assert.deepEqual(codes(made), [0, 9, 3, 3]);
    const id = made.results[0]?.entry?.id ?? '';
    const request = {
      entries: [{ id, federatesWith: ['a.org', 'x.org'] }],
      inputMask: { federatesWith: true },
    };
    assert.deepEqual(codes(await server.admin(Entry).batchUpdateEntry(request, CALL)), [9]);
  });

  it('tells agents of a change at once', async () => {
    const { channel } = await server.newAgent();
    const watching = channel.client(AgentService).watchEntries({}, CALL)[Symbol.asyncIterator]();
    const first = await watching.next();
    await rpc().batchSetFederatedBundle({ bundle: [of('a.org')] }, CALL);
    const second = await watching.next();
    assert.ok(second.value.seq > first.value.seq);
    await watching.return?.();
  });

  it('gives agents the bundles, and their entries the names', async () => {
    await rpc().batchSetFederatedBundle({ bundle: [of('a.org')] }, CALL);
    const { svid, channel } = await server.newAgent();
    await server.entryUnder(svid, '/of-agent', { federatesWith: ['a.org'] });
    const { entries } = await firstSync(channel);
    assert.deepEqual(entries[0]?.federatesWith, ['a.org']);
    const asAgent = channel.client(BundleRpc);
    const { sequenceNumber } = await asAgent.getFederatedBundle({ trustDomain: 'a.org' }, CALL);
    assert.equal(sequenceNumber, 1n);
    await assert.rejects(asAgent.listFederatedBundles({}, CALL), { status: 'PERMISSION_DENIED' });
    const nobody = (await server.dial()).client(BundleRpc);
    await assert.rejects(nobody.getFederatedBundle({ trustDomain: 'a.org' }, CALL), {
      status: 'PERMISSION_DENIED',
    });
  });

  it('records who changed a bundle', async () => {
    await rpc().batchSetFederatedBundle({ bundle: [of('audited.org')] }, CALL);
    const told = (await server.events()).filter(
      ({ attributes }) => attributes.trust_domain === 'audited.org',
    );
    assert.deepEqual(
      told.map(({ type, actor }) => [type, actor?.uid]),
      [['federation.bundle.created', process.getuid?.()]],
    );
  });

  it('appends authorities to its own', async () => {
    const { publicKey, keyId } = foreign.jwtAuthorities[0] ?? assert.fail();
    const [root] = foreign.x509Authorities;
    const before = await rpc().getBundle({}, CALL);
    const after = await rpc().appendBundle(
      {
        x509Authorities: [{ asn1: root?.der ?? Buffer.of() }],
        jwtAuthorities: [{ keyId, publicKey: spkiOf(publicKey), expiresAt: 4_000_000_000n }],
      },
      CALL,
    );
    assert.equal(after.x509Authorities.length, before.x509Authorities.length + 1);
    assert.ok(after.jwtAuthorities.some((key) => key.keyId === keyId));
    assert.ok(after.sequenceNumber > before.sequenceNumber);
    await assert.rejects(rpc().appendBundle({}, CALL), invalid);
    await assert.rejects(rpc().appendBundle({ x509Authorities: [{ asn1: Buffer.of(1) }] }, CALL), {
      ...invalid,
      message: /x509_authorities\[0\]/,
    });
  });

  it('answers with an appended authority that has ended: P-521, from the year 1', async () => {
    const { der } = handMadeCa({
      key: generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey,
      notBefore: new Date('0001-01-01T00:00:00Z'),
      notAfter: new Date('2018-02-10T01:34:55Z'),
    });
    const { x509Authorities } = await rpc().appendBundle(
      { x509Authorities: [{ asn1: der }] },
      CALL,
    );
    assert.ok(x509Authorities.some(({ asn1 }) => der.equals(asn1)));
  });
});
