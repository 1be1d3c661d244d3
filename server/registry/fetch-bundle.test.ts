import assert from 'node:assert/strict';
import { createServer, type Server, type ServerOptions } from 'node:https';
import { type Bundle, bundleToJwks, bundleToPem, makeBundle } from '../../identity/bundle.ts';
import { parseTrustDomain, SpiffeId } from '../../identity/spiffe-id.ts';
import { svidPem } from '../../identity/x509-svid.ts';
import { type Clock, systemClock } from '../../runtime/clock.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { withoutEnvironmentChecks } from '../../test/fixtures/environment-checks.ts';
import { localhostCertificate, localhostKey } from '../../test/fixtures/localhost-tls.ts';
import type { FederationRelationship } from './federation-relationships.ts';
import { fetchBundle } from './fetch-bundle.ts';

const foreign = parseTrustDomain('partner.org');
const endpointId = SpiffeId.fromSegments(foreign, 'spire', 'server');
const unavailable = { code: 'UNAVAILABLE' };
const { signal } = new AbortController();

type Answer = { status?: number; location?: string; body?: string | Buffer };

/** An endpoint whose answers are by path; what is not there never ends its answer. */
class Endpoint implements AsyncDisposable {
  readonly answers = new Map<string, Answer>();
  readonly asked: string[] = [];
  readonly #server: Server;
  port = 0;

  constructor(options: ServerOptions) {
    this.#server = createServer(options, (request, response) => {
      this.asked.push(`${request.method} ${request.url}`);
      const answer = this.answers.get(request.url ?? '');
      if (answer === undefined) {
        response.write('{');
        return;
      }
      const { status = 200, location, body = '' } = answer;
      response.writeHead(status, location === undefined ? {} : { location });
      response.end(body);
    });
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    const address = this.#server.address();
    assert.ok(address !== null && typeof address === 'object');
    this.port = address.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

describe('fetchBundle', () => {
  let authority: FakeAuthority;
  let web: Endpoint;
  let spiffe: Endpoint;
  let published: Bundle;

  before(async () => {
    authority = await FakeAuthority.create(foreign);
    published = authority.bundle.value;
    const { certificates: cert, key } = svidPem(await authority.issue(endpointId));
    spiffe = new Endpoint({ cert, key });
    const webKey = localhostKey.export({ format: 'pem', type: 'pkcs8' });
    web = new Endpoint({ cert: localhostCertificate, key: webKey });
    await Promise.all([spiffe.listen(), web.listen()]);
  });
  after(async () => {
    await web[Symbol.asyncDispose]();
    await spiffe[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    for (const endpoint of [web, spiffe]) {
      endpoint.asked.length = 0;
      endpoint.answers.clear();
      endpoint.answers.set('/bundle', { body: bundleToJwks(published, 'all') });
    }
  });

  const fromWeb = (path: string, clock: Clock = systemClock) =>
    fetchBundle(
      { trustDomain: foreign, url: `https://localhost:${web.port}${path}`, endpointId: undefined },
      {
        ...{ clock, signal, webAuthorities: localhostCertificate },
        bundleOf: async () => assert.fail('no bundle proves a web endpoint'),
      },
    );
  const fromSpiffe = (
    known: Bundle | undefined = published,
    more: Partial<FederationRelationship> = {},
  ) =>
    fetchBundle(
      {
        ...{ trustDomain: foreign, url: `https://127.0.0.1:${spiffe.port}/bundle`, endpointId },
        ...more,
      },
      {
        ...{ clock: systemClock, signal },
        bundleOf: async (name) => (name === known?.trustDomain ? known : undefined),
      },
    );
  const isPublished = (bundle: Bundle) => {
    assert.equal(bundle.trustDomain, foreign);
    assert.equal(bundleToJwks(bundle, 'all'), bundleToJwks(published, 'all'));
  };

  it('gets it from an endpoint of the Web PKI', async () => {
    isPublished(await fromWeb('/bundle'));
    assert.deepEqual(web.asked, ['GET /bundle']);
  });

  it('refuses a certificate without the name of the URL, whoever issued it', async () => {
    const url = `https://localhost:${spiffe.port}/bundle`;
    await assert.rejects(
      fetchBundle(
        { trustDomain: foreign, url, endpointId: undefined },
        {
          ...{ clock: systemClock, signal, webAuthorities: bundleToPem(published) },
          bundleOf: async () => undefined,
        },
      ),
      unavailable,
    );
    assert.deepEqual(spiffe.asked, []);
  });

  it('checks the endpoint also where the environment turns checks of certificates off', async () => {
    const others = (await FakeAuthority.create(foreign)).bundle.value;
    const bundleOf = async () => undefined;
    const relationship = { trustDomain: foreign, endpointId: undefined };
    await withoutEnvironmentChecks(async () => {
      const url = `https://localhost:${web.port}/bundle`;
      const options = { clock: systemClock, signal, bundleOf };
      await assert.rejects(fetchBundle({ ...relationship, url }, options), unavailable);
      await assert.rejects(fromSpiffe(others), unavailable);
    });
    assert.deepEqual([...web.asked, ...spiffe.asked], []);
  });

  it('trusts no certificate beyond the configured authorities, nor a self-signed one without', async () => {
    const relationship = { trustDomain: foreign, endpointId: undefined };
    const options = { clock: systemClock, signal, bundleOf: async () => undefined };
    const self = { ...relationship, url: `https://localhost:${web.port}/bundle` };
    await assert.rejects(fetchBundle(self, options), unavailable);
    const other = { ...relationship, url: `https://127.0.0.1:${spiffe.port}/bundle` };
    await assert.rejects(
      fetchBundle(other, { ...options, webAuthorities: localhostCertificate }),
      unavailable,
    );
    assert.deepEqual([...web.asked, ...spiffe.asked], []);
  });

  it('gets it from an endpoint that proves its SPIFFE ID by the bundle at hand', async () =>
    isPublished(await fromSpiffe()));

  it('refuses an endpoint of another SPIFFE ID before it asks', async () => {
    const other = SpiffeId.fromSegments(foreign, 'spire', 'other');
    await assert.rejects(fromSpiffe(published, { endpointId: other }), unavailable);
    assert.deepEqual(spiffe.asked, []);
  });

  it('refuses an endpoint whose authority is not in that bundle', async () => {
    const stranger = await FakeAuthority.create(foreign);
    await assert.rejects(fromSpiffe(stranger.bundle.value), unavailable);
    assert.deepEqual(spiffe.asked, []);
  });

  it('says what is missing where no bundle is at hand, or an empty one', async () => {
    const missing = { ...unavailable, message: /set it once by hand/ };
    await assert.rejects(
      fetchBundle(
        { trustDomain: foreign, url: `https://127.0.0.1:${spiffe.port}/bundle`, endpointId },
        { clock: systemClock, signal, bundleOf: async () => undefined },
      ),
      missing,
    );
    await assert.rejects(fromSpiffe(makeBundle({ trustDomain: foreign, x509: [] })), missing);
  });

  it('follows a redirect to https, and none elsewhere', async () => {
    web.answers.set('/moved', { status: 302, location: '/bundle' });
    isPublished(await fromWeb('/moved'));
    for (const location of [
      `http://localhost:${web.port}/bundle`,
      `https://user@localhost:${web.port}/bundle`,
      'https://',
    ]) {
      web.answers.set('/moved', { status: 301, location });
      await assert.rejects(fromWeb('/moved'), unavailable, location);
    }
  });

  it('refuses a redirect to an endpoint that does not prove itself the same way', async () => {
    const location = `https://localhost:${web.port}/bundle`;
    spiffe.answers.set('/bundle', { status: 302, location });
    await assert.rejects(fromSpiffe(), unavailable);
    assert.deepEqual(web.asked, []);
  });

  it('ends a circle of redirects', async () => {
    web.answers.set('/round', { status: 302, location: '/round' });
    await assert.rejects(fromWeb('/round'), unavailable);
    assert.equal(web.asked.length, 4);
  });

  it('refuses other answers than 200', async () => {
    web.answers.set('/none', { status: 404 });
    await assert.rejects(fromWeb('/none'), { ...unavailable, message: /status 404/ });
  });

  it('reads at most 1 MiB', async () => {
    web.answers.set('/long', { body: Buffer.alloc(1_048_577, ' ') });
    await assert.rejects(fromWeb('/long'), { ...unavailable, message: /1 MiB/ });
  });

  it('refuses what is no bundle', async () => {
    for (const body of ['{}', '{"keys":[],"keys":[]}', Buffer.of(0xff)]) {
      web.answers.set('/wrong', { body });
      await assert.rejects(fromWeb('/wrong'), { code: 'INVALID_ARGUMENT' });
    }
  });

  it('gives up an answer that does not end', async () => {
    const clock = new FakeClock();
    const fetching = fromWeb('/never', clock);
    const refused = assert.rejects(fetching, { ...unavailable, message: /too long/ });
    while (web.asked.length === 0) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(10_000);
    await refused;
  });
});
