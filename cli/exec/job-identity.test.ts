import assert from 'node:assert/strict';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { type Clock, systemClock } from '../../runtime/clock.ts';
import { OidcIssuer } from '../../test/fakes/oidc-issuer.ts';
import { entryInit } from '../../test/fixtures/registry-world.ts';
import { CALL, RunningServer, until } from '../../test/fixtures/running-server.ts';
import { JobIdentity } from './job-identity.ts';

/** Looks often, in real time. */
const CLOCK: Clock = {
  ...systemClock,
  wait: (_milliseconds, signal) => systemClock.wait(20, signal),
};

describe('JobIdentity', function () {
  this.timeout(20_000);
  let issuer: OidcIssuer;
  let server: RunningServer;
  let entryId: string;
  let minted: number;
  beforeEach(async () => {
    minted = 0;
    issuer = await OidcIssuer.start();
    issuer.claims = { sub: 'job', runner: 7 };
    const provider = { issuer: issuer.url, ca_file: issuer.caFile, audience: 'writ' };
    const claims = { sub: 'job' };
    const issuers = [
      { name: 'each', ...provider, claims },
      { name: 'same', ...provider, claims, agent_per: 'claims' },
    ];
    server = await RunningServer.start({
      config: {
        node_attestors: { oidc: { issuers } },
        ttl: { x509_svid: '3s', agent_svid: '3s' },
      },
    });
    const alias = { path: '/node/ci', parent: '/spire/server', selectors: ['oidc:claim:sub:job'] };
    await server.createEntry(entryInit(alias));
    const entry = { path: '/ci/b', parent: '/node/ci', selectors: ['oidc:claim:runner:7'] };
    entryId = (await server.createEntry(entryInit(entry))).id;
    const others = ['oidc:claim:runner:8', 'unix:uid:12345'];
    for (const [at, selector] of others.entries()) {
      const other = { path: `/ci/other-${at}`, parent: '/node/ci', selectors: [selector] };
      await server.createEntry(entryInit(other));
    }
  });
  afterEach(async () => {
    await server[Symbol.asyncDispose]();
    await issuer[Symbol.asyncDispose]();
  });

  const open = async (provider: string, more: object = {}) =>
    JobIdentity.open({
      ...{ server: server.facts.address, bundle: await server.bundle(), provider, clock: CLOCK },
      token: (audience) => {
        minted += 1;
        return issuer.mint(audience);
      },
      signal: CALL.signal,
      ...more,
    });
  const serials = ({ state }: JobIdentity) => state.value.svids.map(({ svid }) => svid.serial);

  it('holds the entries whose selectors the token has, and no other', async () => {
    await using identity = await open('each');
    const ids = identity.state.value.svids.map(({ svid }) => String(svid.id));
    assert.deepEqual(ids, ['spiffe://example.org/ci/b']);
    const spiffeId = SpiffeId.parse('spiffe://example.org/ci/other-0');
    await assert.rejects(open('each', { spiffeId }), { code: 'PERMISSION_DENIED' });
  });

  it('renews its SVID and its agent’s, of a token’s own agent without another token', async () => {
    await using identity = await open('each');
    const first = identity.state.value.svids[0]?.svid;
    assert.ok(first);
    await systemClock.waitUntil(first.notAfter, CALL.signal);
    await until(async () => serials(identity)[0] !== first.serial);
    assert.equal(minted, 1);
    assert.ok(identity.state.value.svids[0]?.svid.privateKey === first.privateKey);
    const jwt = await identity.newJwt(
      { id: entryId, spiffeId: SpiffeId.parse('spiffe://example.org/ci/b'), hint: '' },
      ['db'],
      CALL.signal,
    );
    assert.equal(jwt.split('.').length, 3);
    const types = (await server.events()).map(({ type }) => type);
    assert.ok(!types.includes('agent.superseded_svid_used'));
  });

  it('attests anew with a fresh token where the agent is named by its claims', async () => {
    await using identity = await open('same');
    await until(async () => minted > 1);
    assert.ok(serials(identity).length === 1);
  });

  it('ends when its entry is deleted, and when its agent is evicted', async () => {
    await using identity = await open('each');
    await server.admin(Entry).batchDeleteEntry({ ids: [entryId] }, CALL);
    assert.match((await identity.ended).message, /no entry is for/);
    await server.createEntry(
      entryInit({ path: '/ci/c', parent: '/node/ci', selectors: ['oidc:claim:runner:7'] }),
    );
    await using other = await open('each');
    const { trustDomain, path } = other.agentId;
    await server.admin(Agent).deleteAgent({ id: { trustDomain, path } }, CALL);
    assert.match((await other.ended).message, /the server ended it/);
  });

  it('ends when it expires and the server is away', async () => {
    await using identity = await open('each');
    await server[Symbol.asyncDispose]();
    assert.match((await identity.ended).message, /expired/);
  });

  it('is refused a second attestation by a token that carries no nonce', async () => {
    const token = await issuer.mint('writ');
    await using _ = await open('each', { token: async () => token });
    await assert.rejects(open('each', { token: async () => token }), {
      status: 'PERMISSION_DENIED',
    });
  });
});
