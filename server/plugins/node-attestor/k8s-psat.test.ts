import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import * as v from 'valibot';
import { parseTrustDomain } from '../../../identity/spiffe-id.ts';
import { type FakePod, KubeApiServer } from '../../../test/fakes/kube-api.ts';
import { k8sPsatAttestor } from './k8s-psat.ts';
import { k8sPsatSchema } from './k8s-psat-config.ts';

const POD: FakePod = {
  namespace: 'spire',
  serviceAccount: 'spire-agent',
  name: 'agent-x7k',
  uid: 'pod-uid-1',
  nodeName: 'node-1',
  labels: { app: 'agent', secret: 'no' },
};
const NODE = { name: 'node-1', uid: 'b5c1-node', labels: { zone: 'a', secret: 'no' } };
const trustDomain = parseTrustDomain('example.org');
const exchange = {
  signal: new AbortController().signal,
  challenge: () => assert.fail('no challenge is due'),
};

describe('k8sPsatAttestor', () => {
  let kube: KubeApiServer;
  beforeEach(async () => {
    kube = await KubeApiServer.start();
    kube.pods.set('spire/agent-x7k', POD);
    kube.nodes.set('node-1', NODE);
  });
  afterEach(() => kube[Symbol.asyncDispose]());

  const attest = (evidence: unknown, more: object = {}) => {
    const { clusters } = v.parse(k8sPsatSchema, {
      clusters: {
        prod: {
          ...{ api_server: kube.url, ca_file: kube.caFile, token_file: kube.tokenFile },
          service_account_allow_list: ['spire:spire-agent'],
          ...more,
        },
      },
    });
    const text = typeof evidence === 'string' ? evidence : JSON.stringify(evidence);
    return k8sPsatAttestor({ trustDomain, clusters }).attest(Buffer.from(text), exchange);
  };
  const shown = (options: object = {}) => ({ cluster: 'prod', token: kube.token(POD, options) });
  const refused = (cause: RegExp) => (error: { code?: string; cause?: unknown }) => {
    assert.equal(error.code, 'ATTESTATION_DENIED');
    assert.match(String(error.cause), cause);
    return true;
  };

  it('names the agent after its node, with the selectors that SPIRE has', async () => {
    const node = await attest(shown(), {
      allowed_pod_label_keys: ['app', 'absent'],
      allowed_node_label_keys: ['zone'],
    });
    assert.equal(String(node.agentId), 'spiffe://example.org/spire/agent/k8s_psat/prod/b5c1-node');
    assert.equal(node.canReattest, true);
    assert.deepEqual(node.selectors, [
      'cluster:prod',
      'agent_ns:spire',
      'agent_sa:spire-agent',
      'agent_pod_name:agent-x7k',
      'agent_pod_uid:pod-uid-1',
      'agent_node_ip:10.0.0.7',
      'agent_node_name:node-1',
      'agent_node_uid:b5c1-node',
      'agent_pod_label:app:agent',
      'agent_node_label:zone:a',
    ]);
  });

  it('refuses a token that the API server does not know, or that is for another audience', async () => {
    await assert.rejects(attest({ cluster: 'prod', token: 'made-up' }), refused(/does not know/));
    await assert.rejects(attest(shown({ audiences: ['vault'] })), refused(/does not know/));
    await attest(shown({ audiences: ['vault'] }), { audience: ['vault'] });
  });

  it('refuses the word of an API server that looks at no audience', async () => {
    kube.ignoresAudiences = true;
    await assert.rejects(attest(shown({ audiences: ['vault'] })), refused(/another audience/));
  });

  it('refuses service accounts that are not on the list, and tokens without a pod', async () => {
    await assert.rejects(
      attest(shown(), { service_account_allow_list: ['spire:other'] }),
      refused(/allow list/),
    );
    await assert.rejects(attest(shown({ isBound: false })), refused(/not bound to a pod/));
  });

  it('refuses a pod that has gone, or another of its name', async () => {
    const evidence = shown();
    kube.pods.set('spire/agent-x7k', { ...POD, uid: 'pod-uid-2' });
    await assert.rejects(attest(evidence), refused(/pod has gone/));
    kube.pods.clear();
    await assert.rejects(attest(evidence), refused(/pod has gone/));
  });

  it('refuses a pod whose node has gone, or whose node has an unheard-of uid', async () => {
    kube.nodes.set('node-1', { ...NODE, uid: '../x' });
    await assert.rejects(attest(shown()), refused(/uid of the node/));
    kube.nodes.clear();
    await assert.rejects(attest(shown()), refused(/node of the pod has gone/));
  });

  it('refuses a cluster that is not configured', async () => {
    await assert.rejects(attest({ ...shown(), cluster: 'toString' }), refused(/that name/));
  });

  for (const evidence of [
    'garbage',
    {},
    { cluster: 'prod' },
    { cluster: 'prod', token: '' },
    { cluster: 'prod', token: 'a b' },
    { cluster: 'prod', token: 'x'.repeat(16_385) },
  ])
    it(`refuses ${JSON.stringify(evidence).slice(0, 40)} as malformed`, async () => {
      await assert.rejects(attest(evidence), { code: 'INVALID_ARGUMENT' });
    });

  it('is unavailable, not refusing, where the API server cannot be asked', async () => {
    const evidence = shown();
    writeFileSync(kube.tokenFile, 'another credential');
    await assert.rejects(attest(evidence), { code: 'UNAVAILABLE' });
    writeFileSync(kube.tokenFile, 'another-credential');
    await assert.rejects(attest(evidence), (error: { code?: string; cause?: unknown }) => {
      assert.match(String(error.cause), /status 401 when asked for a TokenReview/);
      return error.code === 'UNAVAILABLE';
    });
    await assert.rejects(attest(evidence, { ca_file: '/nonexistent' }), { code: 'UNAVAILABLE' });
  });

  it('does not speak to a server that the configured authority does not vouch for', async () => {
    const evidence = shown();
    writeFileSync(kube.caFile, '');
    await assert.rejects(attest(evidence), { code: 'UNAVAILABLE' });
  });
});
