import assert from 'node:assert/strict';
import type { JWTPayload } from 'jose';
import { parseTrustDomain } from '../../../identity/spiffe-id.ts';
import { OidcIssuer } from '../../../test/fakes/oidc-issuer.ts';
import { ManualClock } from '../../../test/fixtures/registry-world.ts';
import { SpentTokens } from '../../attestation/spent-tokens.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { openSqlite } from '../datastore/sqlite.ts';
import { azureMsiAttestor } from './azure-msi.ts';
import { gcpIitAttestor } from './gcp-iit.ts';
import { IssuerKeys, jwksFromUrl } from './jwks.ts';

const trustDomain = parseTrustDomain('example.org');
const exchange = {
  signal: new AbortController().signal,
  challenge: () => assert.fail('no challenge is due'),
};
const refused = (cause: RegExp) => (error: { code?: string; cause?: unknown }) => {
  assert.equal(error.code, 'ATTESTATION_DENIED');
  assert.match(String(error.cause), cause);
  return true;
};

describe('tokens of clouds', () => {
  let issuer: OidcIssuer;
  let store: Datastore;
  let clock: ManualClock;
  beforeEach(async () => {
    issuer = await OidcIssuer.start();
    clock = new ManualClock();
    issuer.now = clock.now;
    store = await openSqlite(':memory:');
  });
  afterEach(async () => {
    await issuer[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
  });
  const shared = () => ({
    ...{ trustDomain, clock, tokens: new SpentTokens({ store }) },
    keys: new IssuerKeys({
      source: jwksFromUrl(new URL(`${issuer.url}/keys`), issuer.caFile),
      clock,
    }),
  });

  describe('gcpIitAttestor', () => {
    const GOOGLE: JWTPayload = {
      iss: 'https://accounts.google.com',
      sub: '1122',
      google: {
        compute_engine: {
          ...{ project_id: 'acme', project_number: 7, zone: 'europe-west3-a' },
          ...{ instance_id: '8087716956832600000', instance_name: 'vm1' },
        },
      },
    };
    const attest = async (claims: JWTPayload = {}, audience = 'writ') => {
      const attestor = gcpIitAttestor({ ...shared(), projectIds: ['acme'], audience: 'writ' });
      const token = await issuer.mint(audience, { ...GOOGLE, jti: undefined, ...claims });
      return { attest: () => attestor.attest(Buffer.from(token), exchange) };
    };

    it('names the agent after its project and instance, with the selectors that SPIRE has', async () => {
      const node = await (await attest()).attest();
      assert.equal(
        String(node.agentId),
        'spiffe://example.org/spire/agent/gcp_iit/acme/8087716956832600000',
      );
      assert.deepEqual(node.selectors, [
        'project-id:acme',
        'zone:europe-west3-a',
        'instance-name:vm1',
      ]);
      assert.deepEqual([node.canReattest, node.firstUseOnly], [false, true]);
    });

    it('takes a token once, though it has no jti, and only a young one', async () => {
      const shown = await attest();
      await shown.attest();
      await assert.rejects(shown.attest(), refused(/used before/));
      const kept = await attest();
      clock.advance(121_000);
      await assert.rejects(kept.attest(), refused(/more than 120 s ago/));
    });

    it('refuses other issuers, audiences and projects, and tokens of no instance', async () => {
      const rejects = async (claims: JWTPayload, cause: RegExp, audience?: string) =>
        assert.rejects((await attest(claims, audience)).attest(), refused(cause));
      await rejects({ iss: 'https://accounts.google.com.evil' }, /another issuer/);
      await rejects({}, /configured audience/, 'other');
      await rejects({ google: undefined }, /of no instance/);
      const { compute_engine: engine } = GOOGLE.google as { compute_engine: object };
      await rejects({ google: { compute_engine: { ...engine, project_id: 'x' } } }, /project/);
    });
  });

  describe('azureMsiAttestor', () => {
    const TENANT = '11111111-2222-3333-4444-555555555555';
    const SUBSCRIPTION = 'aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee';
    const group = `/subscriptions/${SUBSCRIPTION}/resourcegroups/shop/providers`;
    const AZURE: JWTPayload = {
      iss: `https://sts.windows.net/${TENANT}/`,
      sub: '99999999-0000-0000-0000-000000000001',
      xms_mirid: `${group}/Microsoft.Compute/virtualMachines/vm1`,
      uti: 'abc',
    };
    const attest = async (claims: JWTPayload = {}) => {
      const { keys, ...rest } = shared();
      const tenant = { id: TENANT, audience: 'api://writ', subscriptionIds: [SUBSCRIPTION], keys };
      const attestor = azureMsiAttestor({ ...rest, tenants: [tenant] });
      const token = await issuer.mint('api://writ', { ...AZURE, jti: undefined, ...claims });
      const evidence = Buffer.from(JSON.stringify({ token }));
      return { attest: () => attestor.attest(evidence, exchange) };
    };

    it('names the agent after its tenant and principal, with its machine as selectors', async () => {
      const node = await (await attest()).attest();
      assert.equal(
        String(node.agentId),
        `spiffe://example.org/spire/agent/azure_msi/${TENANT}/99999999-0000-0000-0000-000000000001`,
      );
      assert.deepEqual(node.selectors, [`subscription-id:${SUBSCRIPTION}`, 'vm-name:shop:vm1']);
    });

    it('knows machines of a scale set', async () => {
      const path = 'Microsoft.Compute/virtualMachineScaleSets/set/virtualMachines/3';
      const node = await (await attest({ xms_mirid: `${group}/${path}` })).attest();
      assert.ok(node.selectors.includes('vm-name:shop:set_3'));
    });

    it('takes a token once, and no older than its five minutes and two', async () => {
      const shown = await attest();
      await shown.attest();
      await assert.rejects(shown.attest(), refused(/used before/));
      const at = Math.floor(clock.now().getTime() / 1000);
      await (await attest({ iat: at - 420 })).attest();
      await assert.rejects((await attest({ iat: at - 421 })).attest(), refused(/more than 420 s/));
    });

    for (const [what, claims, cause] of [
      [
        'an identity that several machines share',
        { xms_mirid: `${group}/Microsoft.ManagedIdentity/userAssignedIdentities/x` },
        /no virtual machine/,
      ],
      ['no resource', { xms_mirid: undefined }, /names no resource/],
      [
        'another subscription',
        { xms_mirid: String(AZURE.xms_mirid).replace(/a{8}/, 'bbbbbbbb') },
        /subscription/,
      ],
      ['another tenant', { iss: 'https://sts.windows.net/other/' }, /no configured tenant/],
      ['a principal that is no segment', { sub: 'a/b' }, /no SPIFFE ID/],
    ] as const)
      it(`refuses ${what}`, async () => {
        await assert.rejects((await attest(claims)).attest(), refused(cause));
      });
  });
});
