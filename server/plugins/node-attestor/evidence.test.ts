/** Mangled evidence, for the attestors that parse some. */
import assert from 'node:assert/strict';
import * as v from 'valibot';
import { parseTrustDomain } from '../../../identity/spiffe-id.ts';
import { Fault } from '../../../runtime/fault.ts';
import { type FakePod, KubeApiServer } from '../../../test/fakes/kube-api.ts';
import { OidcIssuer } from '../../../test/fakes/oidc-issuer.ts';
import { mutations } from '../../../test/fixtures/mutations.ts';
import { ManualClock } from '../../../test/fixtures/registry-world.ts';
import { k8sPsatAttestor } from './k8s-psat.ts';
import { k8sPsatSchema } from './k8s-psat-config.ts';
import type { AttestedNode } from './node-attestor.ts';
import { oidcAttestor } from './oidc.ts';
import { oidcSchema } from './oidc-config.ts';

const COUNT = 400;
const trustDomain = parseTrustDomain('example.org');
const { signal } = new AbortController();
const POD: FakePod = {
  ...{ namespace: 'spire', serviceAccount: 'spire-agent', name: 'agent-1', uid: 'pod-1' },
  ...{ nodeName: 'node-1', labels: {} },
};

/** What is refused is refused as the agent's fault; what passes says the same in other words. */
const check = async (attested: Promise<AttestedNode>, whole: AttestedNode, bad: Uint8Array) => {
  const outcome = await attested.catch((error: unknown) => error);
  if (!(outcome instanceof Error)) {
    assert.deepEqual(outcome, whole, Buffer.from(bad).toString('latin1'));
    return;
  }
  const code = outcome instanceof Fault ? outcome.code : outcome.name;
  assert.match(code, /^(INVALID_ARGUMENT|ATTESTATION_DENIED)$/, `${outcome}: ${bad}`);
};

describe('node attestors, given mangled evidence', function () {
  this.timeout(60_000);

  it('k8s_psat refuses it', async () => {
    await using kube = await KubeApiServer.start();
    kube.pods.set('spire/agent-1', POD);
    kube.nodes.set('node-1', { name: 'node-1', uid: 'node-uid', labels: {} });
    const { clusters } = v.parse(k8sPsatSchema, {
      clusters: {
        prod: {
          ...{ api_server: kube.url, ca_file: kube.caFile, token_file: kube.tokenFile },
          service_account_allow_list: ['spire:spire-agent'],
        },
      },
    });
    const attestor = k8sPsatAttestor({ trustDomain, clusters });
    const challenge = () => assert.fail('no challenge is due');
    const attest = (evidence: Uint8Array) => attestor.attest(evidence, { signal, challenge });
    const evidence = Buffer.from(JSON.stringify({ cluster: 'prod', token: kube.token(POD, {}) }));
    const whole = await attest(evidence);
    for (const bad of mutations(evidence, COUNT)) await check(attest(bad), whole, bad);
  });

  it('oidc refuses it, also in the token', async () => {
    await using issuer = await OidcIssuer.start();
    const clock = new ManualClock();
    issuer.now = clock.now;
    issuer.claims = { sub: 'job' };
    const { issuers } = v.parse(oidcSchema, {
      issuers: [
        {
          ...{ name: 'ci', issuer: issuer.url, ca_file: issuer.caFile, audience: 'writ' },
          ...{ claims: { sub: 'job' }, agent_per: 'claims' },
        },
      ],
    });
    const tokens = { spend: async () => true };
    const attestor = oidcAttestor({ trustDomain, clock, tokens, issuers });
    const attest = (evidence: Uint8Array, mangle = (token: Buffer): Uint8Array => token) =>
      attestor.attest(evidence, {
        signal,
        challenge: async (challenge) => {
          const { audience } = JSON.parse(Buffer.from(challenge).toString());
          return mangle(Buffer.from(await issuer.mint(audience)));
        },
      });
    const hello = Buffer.from(JSON.stringify({ provider: 'ci' }));
    const whole = await attest(hello);
    for (const bad of mutations(hello, COUNT)) await check(attest(bad), whole, bad);
    for (let at = 0; at < COUNT; at += 1) {
      let bad: Uint8Array = Buffer.of();
      const mangled = attest(hello, (token) => {
        [bad = bad] = mutations(token, 1, at);
        return bad;
      });
      await check(mangled, whole, bad);
    }
  });
});
