import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:https';
import { create } from '@bufbuild/protobuf';
import { type Bundle, bundleToJwks } from '../../identity/bundle.ts';
import { parseTrustDomain, SpiffeId } from '../../identity/spiffe-id.ts';
import { svidPem } from '../../identity/x509-svid.ts';
import { FederationRelationshipSchema } from '../../proto/gen/spire/api/types/federationrelationship_pb.ts';
import { createLogger } from '../../runtime/log.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { OPERATOR, RegistryWorld, TD } from '../../test/fixtures/registry-world.ts';
import { until } from '../../test/fixtures/running-server.ts';
import { bundleMessage } from './bundle-message.ts';
import { findFederatedBundle } from './federated-bundle-rows.ts';
import { FederatedBundles } from './federated-bundles.ts';
import { FederationRefresh } from './federation-refresh.ts';
import { FederationRelationships } from './federation-relationships.ts';

const partner = parseTrustDomain('partner.org');
const endpointId = SpiffeId.fromSegments(partner, 'spire', 'server');

describe('FederationRefresh', () => {
  let authority: FakeAuthority;
  let endpoint: Server;
  let url: string;
  let published: Bundle | undefined;
  let asked: string[];
  let answered: number;
  before(async () => {
    authority = await FakeAuthority.create(partner);
    const { certificates: cert, key } = svidPem(await authority.issue(endpointId));
    endpoint = createServer({ cert, key }, (request, response) => {
      asked.push(request.url ?? '');
      response.statusCode = published === undefined ? 503 : 200;
      response.end(published && bundleToJwks(published, 'all'), () => (answered += 1));
    });
    await new Promise<void>((resolve) => endpoint.listen(0, '127.0.0.1', resolve));
    const address = endpoint.address();
    assert.ok(address !== null && typeof address === 'object');
    url = `https://127.0.0.1:${address.port}`;
  });
  after(async () => {
    endpoint.closeAllConnections();
    await new Promise((resolve) => endpoint.close(resolve));
  });
  beforeEach(() => {
    asked = [];
    answered = 0;
    published = authority.bundle.value;
  });

  const bundleNow = (more: Partial<Bundle>): Bundle => ({ ...authority.bundle.value, ...more });
  const setUp = async (
    body: (parts: {
      clock: FakeClock;
      stored: () => Promise<Bundle | undefined>;
      put: (existence: 'new' | 'known', url: string, bundle?: Bundle) => Promise<void>;
      refresh: FederationRefresh;
      world: RegistryWorld;
    }) => Promise<void>,
  ) => {
    await using world = await RegistryWorld.open();
    const { audit, changes, entries, store } = world;
    const clock = new FakeClock(new Date());
    const shared = { clock, audit, changes, entries, store, trustDomain: TD };
    const bundles = new FederatedBundles(shared);
    const log = createLogger({ process: 'server', level: 'silent' });
    const { bundle } = world.authority;
    await using refresh = new FederationRefresh({ ...shared, log, bundles, bundle });
    const onChanged = () => refresh.wake();
    const relationships = new FederationRelationships({ ...shared, bundles, onChanged });
    const put = async (existence: 'new' | 'known', bundleEndpointUrl: string, known?: Bundle) => {
      const message = create(FederationRelationshipSchema, {
        ...{ trustDomain: partner, bundleEndpointUrl },
        bundleEndpointProfile: {
          case: 'httpsSpiffe',
          value: { endpointSpiffeId: String(endpointId) },
        },
        ...(known !== undefined && { trustDomainBundle: bundleMessage(known) }),
      });
      await store.transaction((tx) => relationships.put(tx, message, existence, OPERATOR));
    };
    const stored = () => findFederatedBundle(store, partner);
    await body({ clock, stored, put, refresh, world });
  };
  /** That many requests have been answered, and what came of the last has been stored. */
  const settled = async (count: number, { advance }: { advance(): Promise<void> }) => {
    await until(async () => answered >= count);
    await advance();
    assert.equal(asked.length, count);
  };

  it('polls at the refresh hint, and stores each new content', () =>
    setUp(async ({ clock, stored, put }) => {
      published = bundleNow({ refreshHintSeconds: 120, sequenceNumber: 5n });
      await put('new', url, authority.bundle.value);
      await until(async () => (await stored())?.sequenceNumber === 5n);
      published = bundleNow({ refreshHintSeconds: 120, sequenceNumber: 6n });
      await clock.advance(110_000);
      assert.equal(asked.length, 1);
      await clock.advance(20_000);
      await until(async () => (await stored())?.sequenceNumber === 6n);
      assert.equal(asked.length, 2);
    }));

  it('polls at most once a minute, whatever the hint', () =>
    setUp(async ({ clock, stored, put }) => {
      published = bundleNow({ refreshHintSeconds: 1, sequenceNumber: 5n });
      await put('new', url, authority.bundle.value);
      await until(async () => (await stored())?.sequenceNumber === 5n);
      await clock.advance(55_000);
      assert.equal(asked.length, 1);
      await clock.advance(20_000);
      await until(async () => answered === 2);
    }));

  it('keeps the bundle when the endpoint fails, and asks again at the hint alone', () =>
    setUp(async ({ clock, stored, put }) => {
      published = undefined;
      await put('new', url, bundleNow({ refreshHintSeconds: 60 }));
      await settled(1, { advance: () => clock.advance(50_000) });
      assert.equal((await stored())?.sequenceNumber, 1n);
      await clock.advance(20_000);
      await settled(2, { advance: () => clock.advance(30_000) });
      assert.equal((await stored())?.sequenceNumber, 1n);
    }));

  it('asks at once at another endpoint', () =>
    setUp(async ({ stored, put }) => {
      published = bundleNow({ sequenceNumber: 5n });
      await put('new', url, authority.bundle.value);
      await until(async () => (await stored())?.sequenceNumber === 5n);
      published = bundleNow({ sequenceNumber: 6n });
      await put('known', `${url}/moved`);
      await until(async () => (await stored())?.sequenceNumber === 6n);
      assert.deepEqual(asked, ['/', '/moved']);
    }));

  it('changes nothing for the same bundle, or for one that is older', () =>
    setUp(async ({ stored, put, refresh, world }) => {
      const { signal } = new AbortController();
      published = bundleNow({ sequenceNumber: 5n });
      await put('new', url, authority.bundle.value);
      await until(async () => (await stored())?.sequenceNumber === 5n);
      const events = (await world.events()).length;
      await refresh.now(partner, signal);
      published = bundleNow({ sequenceNumber: 4n, refreshHintSeconds: 77 });
      await refresh.now(partner, signal);
      assert.equal((await world.events()).length, events);
      published = bundleNow({ sequenceNumber: 0n, refreshHintSeconds: 77 });
      await refresh.now(partner, signal);
      assert.equal((await stored())?.refreshHintSeconds, 77);
    }));

  it('tells agents of a new bundle', () =>
    setUp(async ({ stored, put, world }) => {
      published = bundleNow({ sequenceNumber: 5n });
      await put('new', url, authority.bundle.value);
      const before = world.changes.head.value;
      await until(async () => (await stored())?.sequenceNumber === 5n);
      assert.ok(world.changes.head.value > before);
    }));
});
