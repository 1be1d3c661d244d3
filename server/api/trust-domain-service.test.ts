import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:https';
import { bundleToJwks } from '../../identity/bundle.ts';
import { parseTrustDomain, SpiffeId } from '../../identity/spiffe-id.ts';
import { svidPem } from '../../identity/x509-svid.ts';
import { Bundle as BundleRpc } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { TrustDomain } from '../../proto/gen/spire/api/server/trustdomain/v1/trustdomain_pb.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { TD } from '../../test/fixtures/registry-world.ts';
import { CALL, RunningServer, until } from '../../test/fixtures/running-server.ts';
import { bundleMessage } from '../registry/bundle-message.ts';

const partner = parseTrustDomain('partner.org');
const endpointId = SpiffeId.fromSegments(partner, 'spire', 'server');
const web = { case: 'httpsWeb', value: {} } as const;
const bySpiffe = (id: string) =>
  ({ case: 'httpsSpiffe', value: { endpointSpiffeId: id } }) as const;
const invalid = { status: 'INVALID_ARGUMENT' };

describe('trustDomainService', () => {
  let server: RunningServer;
  let authority: FakeAuthority;
  let endpoint: Server;
  let url: string;
  let answer: () => string;
  before(async () => {
    authority = await FakeAuthority.create(partner);
    const { certificates: cert, key } = svidPem(await authority.issue(endpointId));
    answer = () => bundleToJwks(authority.bundle.value, 'all');
    endpoint = createServer({ cert, key }, (_request, response) => response.end(answer()));
    await new Promise<void>((resolve) => endpoint.listen(0, '127.0.0.1', resolve));
    const address = endpoint.address();
    assert.ok(address !== null && typeof address === 'object');
    url = `https://127.0.0.1:${address.port}`;
    server = await RunningServer.start();
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    endpoint.closeAllConnections();
    await new Promise((resolve) => endpoint.close(resolve));
  });

  const rpc = () => server.admin(TrustDomain);
  const relationship = (trustDomain: string, more: object = {}) => ({
    trustDomain,
    // Nobody listens there.
    bundleEndpointUrl: 'https://127.0.0.1:1/bundle',
    bundleEndpointProfile: web,
    ...more,
  });
  const codes = ({ results }: { results: readonly { status?: { code: number } | undefined }[] }) =>
    results.map(({ status }) => status?.code);
  const create = (...federationRelationships: object[]) =>
    rpc().batchCreateFederationRelationship({ federationRelationships }, CALL);
  afterEach(async () => {
    const { federationRelationships } = await rpc().listFederationRelationships({}, CALL);
    const trustDomains = federationRelationships.map(({ trustDomain }) => trustDomain);
    await rpc().batchDeleteFederationRelationship({ trustDomains }, CALL);
    const names = (await server.admin(BundleRpc).listFederatedBundles({}, CALL)).bundles;
    await server
      .admin(BundleRpc)
      .batchDeleteFederatedBundle(
        { trustDomains: names.map(({ trustDomain }) => trustDomain) },
        CALL,
      );
  });

  it('creates them, each item by itself, as they were given', async () => {
    const made = await create(
      relationship('a.org', { bundleEndpointUrl: 'https://a.org' }),
      relationship('a.org'),
      relationship('b.org', { bundleEndpointProfile: bySpiffe('spiffe://b.org/x') }),
    );
    assert.deepEqual(codes(made), [0, 6, 0]);
    const [first, , third] = made.results.map((one) => one.federationRelationship);
    assert.deepEqual(
      [first?.bundleEndpointUrl, first?.bundleEndpointProfile.case, first?.trustDomainBundle],
      ['https://a.org', 'httpsWeb', undefined],
    );
    assert.deepEqual(
      third,
      await rpc().getFederationRelationship({ trustDomain: 'spiffe://b.org' }, CALL),
    );
    assert.deepEqual(third?.bundleEndpointProfile.value, {
      $typeName: 'spire.api.types.HTTPSSPIFFEProfile',
      endpointSpiffeId: 'spiffe://b.org/x',
    });
  });

  const wrong: [string, object][] = [
    ['its own trust domain', { trustDomain: TD }],
    ['a malformed trust domain', { trustDomain: 'A b' }],
    ['no URL', { bundleEndpointUrl: '' }],
    ['http', { bundleEndpointUrl: 'http://a.org' }],
    ['user information', { bundleEndpointUrl: 'https://user:secret@a.org' }],
    ['a URL without host', { bundleEndpointUrl: 'https://' }],
    ['a URL with a blank', { bundleEndpointUrl: ' https://a.org' }],
    ['a URL of 2049 characters', { bundleEndpointUrl: `https://a.org/${'x'.repeat(2035)}` }],
    ['no profile', { bundleEndpointProfile: { case: undefined } }],
    ['a malformed endpoint ID', { bundleEndpointProfile: bySpiffe('a.org') }],
    ['no endpoint ID', { bundleEndpointProfile: bySpiffe('') }],
  ];
  for (const [what, more] of wrong) {
    it(`refuses ${what}`, async () =>
      assert.deepEqual(codes(await create(relationship('a.org', more))), [3]));
  }

  it('takes a bundle along, of that trust domain alone', async () => {
    const trustDomainBundle = bundleMessage(authority.bundle.value);
    const made = await create(
      relationship(partner, { trustDomainBundle }),
      relationship('other.org', { trustDomainBundle }),
    );
    assert.deepEqual(codes(made), [0, 3]);
    assert.deepEqual(made.results[0]?.federationRelationship?.trustDomainBundle, trustDomainBundle);
    const found = await server.admin(BundleRpc).getFederatedBundle({ trustDomain: partner }, CALL);
    assert.deepEqual(found, trustDomainBundle);
  });

  it('updates what the mask names, and nothing that is not there', async () => {
    const trustDomainBundle = bundleMessage(authority.bundle.value);
    await create(relationship(partner, { trustDomainBundle }));
    const change = relationship(partner, {
      bundleEndpointUrl: 'https://new.org/',
      bundleEndpointProfile: { case: undefined },
    });
    const updated = await rpc().batchUpdateFederationRelationship(
      {
        federationRelationships: [change, relationship('none.org')],
        inputMask: { bundleEndpointUrl: true, trustDomainBundle: true },
        outputMask: { bundleEndpointUrl: true, bundleEndpointProfile: true },
      },
      CALL,
    );
    assert.deepEqual(codes(updated), [0, 5]);
    const shown = updated.results[0]?.federationRelationship;
    assert.deepEqual(
      [shown?.bundleEndpointUrl, shown?.bundleEndpointProfile.case, shown?.trustDomainBundle],
      ['https://new.org/', 'httpsWeb', undefined],
    );
    const kept = await rpc().getFederationRelationship({ trustDomain: partner }, CALL);
    assert.deepEqual(kept.trustDomainBundle, trustDomainBundle);
  });

  it('lists by pages, and shows what the mask names', async () => {
    await create(relationship('c.org'), relationship('a.org'), relationship('b.org'));
    const first = await rpc().listFederationRelationships(
      { pageSize: 2, outputMask: { bundleEndpointProfile: true } },
      CALL,
    );
    const shown = first.federationRelationships.map((one) => [
      one.trustDomain,
      one.bundleEndpointUrl,
      one.bundleEndpointProfile.case,
    ]);
    assert.deepEqual(shown, [
      ['a.org', '', 'httpsWeb'],
      ['b.org', '', 'httpsWeb'],
    ]);
    const second = await rpc().listFederationRelationships(
      { pageSize: 2, pageToken: first.nextPageToken },
      CALL,
    );
    assert.deepEqual(
      [second.federationRelationships.map(({ trustDomain }) => trustDomain), second.nextPageToken],
      [['c.org'], ''],
    );
  });

  it('deletes them and keeps their bundles', async () => {
    const trustDomainBundle = bundleMessage(authority.bundle.value);
    await create(relationship(partner, { trustDomainBundle }));
    const trustDomains = [`spiffe://${partner}`, partner, '', 'A b'];
    const deleted = await rpc().batchDeleteFederationRelationship({ trustDomains }, CALL);
    assert.deepEqual(codes(deleted), [0, 5, 3, 3]);
    assert.deepEqual(
      deleted.results.map(({ trustDomain }) => trustDomain),
      [partner, partner, '', 'A b'],
    );
    await assert.rejects(rpc().getFederationRelationship({ trustDomain: partner }, CALL), {
      status: 'NOT_FOUND',
    });
    await server.admin(BundleRpc).getFederatedBundle({ trustDomain: partner }, CALL);
  });

  it('fetches a bundle when told to, from an endpoint that proves its SPIFFE ID', async () => {
    await assert.rejects(rpc().refreshBundle({ trustDomain: partner }, CALL), {
      status: 'NOT_FOUND',
    });
    await assert.rejects(rpc().refreshBundle({ trustDomain: '' }, CALL), invalid);
    const trustDomainBundle = bundleMessage(authority.bundle.value);
    const profile = bySpiffe(String(endpointId));
    const more = { bundleEndpointUrl: url, bundleEndpointProfile: profile, trustDomainBundle };
    assert.deepEqual(codes(await create(relationship(partner, more))), [0]);
    await authority.rotate({ taintOld: false });
    await rpc().refreshBundle({ trustDomain: partner }, CALL);
    const found = await server.admin(BundleRpc).getFederatedBundle({ trustDomain: partner }, CALL);
    assert.deepEqual(found, bundleMessage(authority.bundle.value));
  });

  it('keeps the bundle when the endpoint fails, and says so', async () => {
    const trustDomainBundle = bundleMessage(authority.bundle.value);
    await create(relationship(partner, { trustDomainBundle }));
    await assert.rejects(rpc().refreshBundle({ trustDomain: partner }, CALL), {
      status: 'UNAVAILABLE',
    });
    await server.admin(BundleRpc).getFederatedBundle({ trustDomain: partner }, CALL);
  });

  it('fetches the bundle of a new relationship by itself', async () => {
    const bundle = [{ ...bundleMessage(authority.bundle.value), sequenceNumber: 0n }];
    await server.admin(BundleRpc).batchSetFederatedBundle({ bundle }, CALL);
    const profile = bySpiffe(String(endpointId));
    await create(relationship(partner, { bundleEndpointUrl: url, bundleEndpointProfile: profile }));
    await until(async () => {
      const request = { trustDomain: partner };
      const found = await server.admin(BundleRpc).getFederatedBundle(request, CALL);
      return found.sequenceNumber === authority.bundle.value.sequenceNumber;
    });
  });

  it('records who federated', async () => {
    await create(relationship('audited.org'));
    const told = (await server.events()).filter(
      ({ attributes }) => attributes.trust_domain === 'audited.org',
    );
    assert.deepEqual(
      told.map(({ type, attributes }) => [type, attributes.url]),
      [['federation.created', 'https://127.0.0.1:1/bundle']],
    );
  });
});
