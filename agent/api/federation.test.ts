import assert from 'node:assert/strict';
import { bundleFromJwks, makeBundle, splitX509Der } from '../../identity/bundle.ts';
import { parseTrustDomain, SpiffeId } from '../../identity/spiffe-id.ts';
import { systemClock } from '../../runtime/clock.ts';
import { AgentUnderTest } from '../../test/fakes/agent-under-test.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { FakeSpireServer } from '../../test/fakes/spire-server.ts';

const td = parseTrustDomain('example.org');
const partner = parseTrustDomain('partner.org');
const KEY = 'spiffe://partner.org';
const entry = (id: string, federatesWith: string[], revisionNumber = 0n) => ({
  id,
  spiffeId: { trustDomain: td, path: `/${id}` },
  selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }],
  federatesWith,
  revisionNumber,
  createdAt: 1n,
});

/** The messages of a stream up to the one that fits. */
async function firstThat<T>(stream: AsyncIterable<T>, fits: (one: T) => boolean): Promise<T> {
  for await (const one of stream) if (fits(one)) return one;
  return assert.fail('the stream has ended');
}

describe('federated bundles in the Workload API', () => {
  let own: FakeAuthority;
  let foreign: FakeAuthority;
  before(async () => {
    own = await FakeAuthority.create(td);
    foreign = await FakeAuthority.create(partner);
  });

  const setUp = async (
    federatesWith: string[],
    body: (parts: {
      server: FakeSpireServer;
      client: ReturnType<AgentUnderTest['client']>;
      options: { signal: AbortSignal; metadata: Record<string, string> };
    }) => Promise<void>,
  ) => {
    const stop = new AbortController();
    await using server = await FakeSpireServer.start({ authority: own });
    await using agent = await AgentUnderTest.create(server);
    server.federated.set(partner, foreign.bundle.value);
    server.setEntries([entry('a', federatesWith)]);
    await agent.start();
    const options = { signal: stop.signal, metadata: { 'workload.spiffe.io': 'true' } };
    await body({ server, client: agent.client(), options });
    stop.abort();
  };

  it('come with the SVIDs, and in the streams of bundles', () =>
    setUp([partner], async ({ client, options }) => {
      const x509 = await firstThat(client.fetchX509SVID({}, options), () => true);
      const [root] = foreign.bundle.value.x509Authorities;
      assert.deepEqual(Object.keys(x509.federatedBundles), [KEY]);
      assert.deepEqual(splitX509Der(x509.federatedBundles[KEY] ?? Buffer.of()), [root?.der]);
      const bundles = await firstThat(client.fetchX509Bundles({}, options), () => true);
      assert.deepEqual(Object.keys(bundles.bundles).sort(), ['spiffe://example.org', KEY]);
      const jwt = await firstThat(client.fetchJWTBundles({}, options), () => true);
      const jwks = Buffer.from(jwt.bundles[KEY] ?? Buffer.of()).toString();
      assert.equal(bundleFromJwks(partner, jwks).jwtAuthorities[0]?.keyId, 'jwt-1');
    }));

  it('are not given to whose entries do not name the trust domain', () =>
    setUp([], async ({ server, client, options }) => {
      const x509 = await firstThat(client.fetchX509SVID({}, options), () => true);
      assert.deepEqual(x509.federatedBundles, {});
      assert.ok(!server.calls.includes('GetFederatedBundle'));
    }));

  it('follow the server: a new one, an empty one, none', () =>
    setUp([partner], async ({ server, client, options }) => {
      const stream = client.fetchX509Bundles({}, options)[Symbol.asyncIterator]();
      const rest = { [Symbol.asyncIterator]: () => ({ next: () => stream.next() }) };
      const count = (bytes: Uint8Array | undefined) =>
        bytes === undefined ? undefined : splitX509Der(bytes).length;
      const shows = (wanted: number | undefined) =>
        firstThat(rest, ({ bundles }) => count(bundles[KEY]) === wanted);
      await shows(1);
      const second = await FakeAuthority.create(partner);
      const both = [
        ...foreign.bundle.value.x509Authorities,
        ...second.bundle.value.x509Authorities,
      ];
      server.federated.set(partner, makeBundle({ trustDomain: partner, x509: both }));
      server.push();
      await shows(2);
      server.federated.set(partner, makeBundle({ trustDomain: partner, x509: [] }));
      server.push();
      await shows(0);
      server.federated.delete(partner);
      server.push();
      await shows(undefined);
    }));

  it('are left out when the server gives that of another trust domain, and the rest goes on', () =>
    setUp([partner, 'third.org', 'No Name'], async ({ server, client, options }) => {
      server.federated.set('third.org', foreign.bundle.value);
      server.setEntries([entry('a', [partner, 'third.org', 'No Name'], 1n)]);
      const { bundles } = await firstThat(client.fetchX509Bundles({}, options), () => true);
      assert.deepEqual(Object.keys(bundles).sort(), ['spiffe://example.org', KEY]);
    }));

  it('validate a foreign JWT-SVID, of which only the common claims are passed on', () =>
    setUp([partner], async ({ client, options }) => {
      const id = SpiffeId.fromSegments(partner, 'db');
      const { token: svid } = foreign.signJwt(id, ['x'], 60_000);
      const answer = await client.validateJWTSVID({ audience: 'x', svid }, options);
      assert.equal(answer.spiffeId, String(id));
      assert.deepEqual(Object.keys(answer.claims ?? {}).sort(), ['aud', 'exp', 'sub']);
    }));

  it('never validate for another trust domain: neither its own tokens nor ours by its keys', () =>
    setUp([partner], async ({ server, client, options }) => {
      const validate = (svid: string) => client.validateJWTSVID({ audience: 'x', svid }, options);
      const refused = { status: 'INVALID_ARGUMENT' };
      const ours = foreign.signJwt(SpiffeId.fromSegments(td, 'a'), ['x'], 60_000);
      await assert.rejects(validate(ours.token), refused);
      const theirs = own.signJwt(SpiffeId.fromSegments(partner, 'a'), ['x'], 60_000);
      await assert.rejects(validate(theirs.token), refused);
      const good = foreign.signJwt(SpiffeId.fromSegments(partner, 'a'), ['x'], 60_000).token;
      await validate(good);
      server.setEntries([entry('a', [], 1n)]);
      for (let left = 100; left > 0; left -= 1) {
        const isRefused = await validate(good).then(
          () => false,
          () => true,
        );
        if (isRefused) return;
        await systemClock.wait(30, options.signal);
      }
      assert.fail('an entry that federates no more still validates foreign tokens');
    }));
});
