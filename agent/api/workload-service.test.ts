import assert from 'node:assert/strict';
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  X509Certificate,
} from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { splitX509Der } from '../../identity/bundle.ts';
import { signJwtSvid } from '../../identity/jwt-svid.ts';
import { parseTrustDomain, SpiffeId } from '../../identity/spiffe-id.ts';
import { verifySvid } from '../../identity/verify.ts';
import type { X509SVIDResponse } from '../../proto/gen/spiffe/workload/workload_pb.ts';
import type { CallOptions } from '../../runtime/grpc-client.ts';
import { AgentUnderTest } from '../../test/fakes/agent-under-test.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { type FakeServerOptions, FakeSpireServer } from '../../test/fakes/spire-server.ts';

const td = parseTrustDomain('example.org');
const mine = { type: 'unix', value: `uid:${process.getuid?.()}` };
const notMine = { type: 'unix', value: 'path:/bin/another-program' };
const entry = (id: string, more: object = {}) => ({
  id,
  spiffeId: { trustDomain: td, path: `/${id}` },
  selectors: [mine],
  revisionNumber: 0n,
  createdAt: 1n,
  ...more,
});
const ids = (response: X509SVIDResponse) => response.svids.map(({ spiffeId }) => spiffeId);

describe('workloadService', () => {
  let authority: FakeAuthority;
  let stop: AbortController;
  beforeEach(async () => {
    authority = await FakeAuthority.create(td);
    stop = new AbortController();
  });
  afterEach(() => stop.abort());

  const options = (): CallOptions => ({
    signal: stop.signal,
    metadata: { 'workload.spiffe.io': 'true' },
  });
  const setUp = async (
    body: (parts: {
      server: FakeSpireServer;
      agent: AgentUnderTest;
      client: ReturnType<AgentUnderTest['client']>;
    }) => Promise<void>,
    server: Partial<FakeServerOptions> = {},
  ) => {
    await using fake = await FakeSpireServer.start({ authority, ...server });
    await using agent = await AgentUnderTest.create(fake);
    fake.setEntries([entry('b'), entry('a'), entry('other', { selectors: [mine, notMine] })]);
    await agent.start();
    await body({ server: fake, agent, client: agent.client() });
    stop.abort();
  };
  const within = async <T>(iterator: AsyncIterator<T>, milliseconds = 3000): Promise<T> => {
    const late = sleep(milliseconds, undefined, { ref: false }).then(() => {
      throw new Error(`no message within ${milliseconds} ms`);
    });
    const result = await Promise.race([iterator.next(), late]);
    if (result.done === true) throw new Error('the stream has ended');
    return result.value;
  };
  const eventually = async (check: () => Promise<void>, milliseconds = 10_000): Promise<void> => {
    const end = performance.now() + milliseconds;
    for (;;) {
      try {
        return await check();
      } catch (error) {
        if (performance.now() > end) throw error;
      }
      await sleep(50);
    }
  };
  const x509 = (client: ReturnType<AgentUnderTest['client']>) =>
    client.fetchX509SVID({}, options())[Symbol.asyncIterator]();

  describe('FetchX509SVID', () => {
    it('gives every entry whose selectors are all held, the lowest id first, and key and bundle with it', () =>
      setUp(async ({ client }) => {
        const response = await within(x509(client));
        assert.deepEqual(ids(response), ['spiffe://example.org/a', 'spiffe://example.org/b']);
        const [first] = response.svids;
        assert.ok(first);
        const chain = splitX509Der(first.x509Svid);
        const bundle = authority.bundle.value;
        assert.equal(String(verifySvid(chain, () => bundle, new Date()).id), first.spiffeId);
        const key = createPrivateKey({
          key: Buffer.from(first.x509SvidKey),
          format: 'der',
          type: 'pkcs8',
        });
        const leaf = new X509Certificate(Buffer.from(first.x509Svid));
        assert.ok(createPublicKey(key).equals(leaf.publicKey));
        assert.deepEqual(splitX509Der(first.bundle).length, 1);
      }));

    it('looks at the program of a workload as soon as an entry asks about it', () =>
      setUp(async ({ server, client }) => {
        const stream = x509(client);
        await within(stream);
        const value = `path:${process.execPath}`;
        const program = [mine, { type: 'unix', value }];
        server.setEntries([entry('a'), entry('program', { selectors: program })]);
        let response = await within(stream);
        while (!ids(response).includes('spiffe://example.org/program'))
          response = await within(stream);
        const again = await within(x509(client));
        assert.deepEqual(ids(again), ids(response));
      }));

    it('answers from a warm cache without a word to the server', () =>
      setUp(async ({ server, client }) => {
        await within(x509(client));
        // The watch asks for one more sync when it begins.
        let calls = 0;
        for (; calls !== server.calls.length; await sleep(200)) calls = server.calls.length;
        await within(x509(client));
        assert.equal(server.calls.length, calls);
      }));

    it('sends a new whole state within a second of a new entry', () =>
      setUp(async ({ server, client }) => {
        const stream = x509(client);
        await within(stream);
        server.setEntries([entry('a'), entry('b'), entry('c')]);
        let response = await within(stream, 1000);
        while (response.svids.length < 3) response = await within(stream, 1000);
        assert.equal(ids(response).at(-1), 'spiffe://example.org/c');
      }));

    it('sends nothing when nothing has changed for this caller', () =>
      setUp(async ({ server, client }) => {
        const stream = x509(client);
        await within(stream);
        server.setEntries([entry('a'), entry('b'), entry('z', { selectors: [notMine] })]);
        await assert.rejects(within(stream, 700), /no message/);
      }));

    it('says PERMISSION_DENIED when there is no entry, also in mid-stream', () =>
      setUp(async ({ server, client }) => {
        const stream = x509(client);
        await within(stream);
        server.setEntries([entry('z', { selectors: [notMine] })]);
        const denied = { status: 'PERMISSION_DENIED', message: 'no identity issued' };
        await assert.rejects(within(stream), denied);
        await assert.rejects(within(x509(client)), denied);
      }));

    it('treats an entry that the server refuses to sign for as none', () =>
      setUp(async ({ server, client }) => {
        server.refusals.set('c', 7);
        server.setEntries([entry('c')]);
        await eventually(() =>
          assert.rejects(within(x509(client)), { status: 'PERMISSION_DENIED' }),
        );
        server.refusals.clear();
        server.push();
        await eventually(async () =>
          assert.deepEqual(ids(await within(x509(client))), ['spiffe://example.org/c']),
        );
      }));

    it('renews at half life, and each SVID with a key of its own', () =>
      setUp(
        async ({ client }) => {
          const stream = x509(client);
          const first = await within(stream);
          const serials = ({ svids }: X509SVIDResponse) =>
            svids.map(({ x509Svid }) => new X509Certificate(Buffer.from(x509Svid)).serialNumber);
          let last = await within(stream, 4000);
          while (serials(last).some((serial) => serials(first).includes(serial))) {
            last = await within(stream, 4000);
          }
          const keys = [...first.svids, ...last.svids].map(({ x509SvidKey }) =>
            Buffer.from(x509SvidKey).toString('hex'),
          );
          assert.equal(new Set(keys).size, 4);
        },
        { svidTtlMs: 4000 },
      )).timeout(10_000);

    it('replaces what chains to a tainted authority', () =>
      setUp(async ({ server, client }) => {
        const stream = x509(client);
        await within(stream);
        await authority.rotate({ taintOld: true });
        server.push();
        const [newest] = authority.bundle.value.x509Authorities;
        const ca = new X509Certificate(Buffer.from(newest?.der ?? []));
        let response = await within(stream);
        const isNew = () =>
          response.svids.every(({ x509Svid }) =>
            new X509Certificate(Buffer.from(x509Svid)).checkIssued(ca),
          );
        while (!isNew()) response = await within(stream);
        assert.equal(splitX509Der(response.svids[0]?.bundle ?? new Uint8Array()).length, 2);
      }));

    it('serves on while the server is away, and never an SVID that has ended', () =>
      setUp(
        async ({ server, client }) => {
          const stream = x509(client);
          await within(stream);
          await server.stop();
          const { svids } = await within(x509(client));
          assert.equal(svids.length, 2);
          await sleep(4500);
          await assert.rejects(within(x509(client)), { status: 'UNAVAILABLE' });
          await server.listen();
          await eventually(async () => assert.equal((await within(x509(client))).svids.length, 2));
        },
        { svidTtlMs: 4000 },
      )).timeout(20_000);

    it('gives an identity that is issued on demand', () =>
      setUp(async ({ server, client }) => {
        const additionalAttributes = { disableX509SvidPrefetch: true };
        const before = x509(client);
        await within(before);
        await before.return?.();
        server.batches.length = 0;
        server.setEntries([entry('d', { additionalAttributes })]);
        await sleep(300);
        assert.deepEqual(server.batches, []);
        assert.deepEqual(ids(await within(x509(client))), ['spiffe://example.org/d']);
      }));

    it('waits with its first answer for all identities, as a client may take no second one', () =>
      setUp(async ({ server, client }) => {
        const additionalAttributes = { disableX509SvidPrefetch: true };
        server.setEntries([entry('a'), entry('b'), entry('c', { additionalAttributes })]);
        await sleep(300);
        assert.equal((await within(x509(client))).svids.length, 3);
      }));

    it('answers with what there is when the server does not give the rest', () =>
      setUp(async ({ server, client }) => {
        server.refusals.set('c', 14);
        server.setEntries([entry('a'), entry('b'), entry('c')]);
        await sleep(300);
        assert.equal((await within(x509(client))).svids.length, 2);
      }));
  });

  describe('FetchX509Bundles and FetchJWTBundles', () => {
    it('are keyed by the trust domain as SPIFFE ID, and the JWKS holds JWT keys alone', () =>
      setUp(async ({ client }) => {
        const { bundles } = await within(
          client.fetchX509Bundles({}, options())[Symbol.asyncIterator](),
        );
        assert.deepEqual(Object.keys(bundles), ['spiffe://example.org']);
        const jwt = await within(client.fetchJWTBundles({}, options())[Symbol.asyncIterator]());
        const jwks = JSON.parse(Buffer.from(jwt.bundles['spiffe://example.org'] ?? []).toString());
        assert.deepEqual(
          jwks.keys.map(({ kid, use }: { kid: string; use: string }) => [kid, use]),
          [['jwt-1', 'jwt-svid']],
        );
      }));

    it('send a new bundle and nothing else', () =>
      setUp(async ({ server, client }) => {
        const stream = client.fetchX509Bundles({}, options())[Symbol.asyncIterator]();
        await within(stream);
        server.setEntries([entry('a'), entry('c')]);
        await assert.rejects(within(stream, 700), /no message/);
      }));

    it('are denied to who has no identity', () =>
      setUp(async ({ server, client }) => {
        server.setEntries([]);
        for (const stream of [client.fetchX509Bundles, client.fetchJWTBundles]) {
          await eventually(() => {
            const first = within<unknown>(stream({}, options())[Symbol.asyncIterator]());
            return assert.rejects(first, { status: 'PERMISSION_DENIED' });
          });
        }
      }));
  });

  describe('FetchJWTSVID', () => {
    it('mints for all identities or the one that is named, and hands out the same again', () =>
      setUp(async ({ client }) => {
        const all = await client.fetchJWTSVID({ audience: ['x'] }, options());
        assert.equal(all.svids.length, 2);
        const one = await client.fetchJWTSVID(
          { audience: ['x'], spiffeId: 'spiffe://example.org/b' },
          options(),
        );
        assert.deepEqual(
          one.svids.map(({ svid }) => svid),
          [all.svids[1]?.svid],
        );
      }));

    it('refuses a missing audience, a malformed name, and an identity of somebody else', () =>
      setUp(async ({ client }) => {
        const fetch = (audience: string[], spiffeId: string) =>
          client.fetchJWTSVID({ audience, spiffeId }, options());
        await assert.rejects(fetch([], ''), { status: 'INVALID_ARGUMENT' });
        await assert.rejects(fetch([''], ''), { status: 'INVALID_ARGUMENT' });
        await assert.rejects(fetch(['x'.repeat(1025)], ''), { status: 'INVALID_ARGUMENT' });
        await assert.rejects(fetch(['x'], 'spiffe://'), { status: 'INVALID_ARGUMENT' });
        await assert.rejects(fetch(['x'], 'spiffe://example.org/other'), {
          status: 'PERMISSION_DENIED',
        });
      }));

    it('says UNAVAILABLE when the server is away and there is none at hand', () =>
      setUp(async ({ server, client }) => {
        await client.fetchJWTSVID({ audience: ['x'] }, options());
        await server.stop();
        await client.fetchJWTSVID({ audience: ['x'] }, options());
        const other = client.fetchJWTSVID({ audience: ['y'] }, options());
        await assert.rejects(other, { status: 'UNAVAILABLE' });
      }));
  });

  describe('ValidateJWTSVID', () => {
    it('returns the claims, with aud as a list', () =>
      setUp(async ({ client }) => {
        const { svids } = await client.fetchJWTSVID({ audience: ['x'] }, options());
        const svid = svids[0]?.svid ?? '';
        const answer = await client.validateJWTSVID({ audience: 'x', svid }, options());
        assert.equal(answer.spiffeId, 'spiffe://example.org/a');
        assert.deepEqual(answer.claims?.aud, ['x']);
        assert.equal(answer.claims?.sub, 'spiffe://example.org/a');
      }));

    it('refuses another audience, another key and another trust domain', () =>
      setUp(async ({ client }) => {
        const { privateKey: key } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
        const now = new Date();
        const parts = {
          audience: ['x'],
          issuedAt: now,
          expiresAt: new Date(now.getTime() + 60_000),
          keyId: 'jwt-1',
          key,
        };
        const { svids } = await client.fetchJWTSVID({ audience: ['y'] }, options());
        const forged = signJwtSvid({ ...parts, id: SpiffeId.parse('spiffe://example.org/a') });
        const foreign = signJwtSvid({ ...parts, id: SpiffeId.parse('spiffe://other.org/a') });
        for (const svid of [svids[0]?.svid ?? '', forged, foreign, 'x.y.z', '']) {
          await assert.rejects(client.validateJWTSVID({ audience: 'x', svid }, options()), {
            status: 'INVALID_ARGUMENT',
          });
        }
      }));
  });
});
