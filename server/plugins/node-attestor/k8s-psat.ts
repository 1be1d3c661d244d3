/**
 * Node attestor `k8s_psat`: an agent in a pod shows the pod's projected service account token. The
 * cluster's API server says whether it is genuine, of which pod, and on which node that runs. On the
 * wire as SPIRE's: `{"cluster": "...", "token": "..."}`.
 */
import * as v from 'valibot';
import { SpiffeId, type TrustDomain } from '../../../identity/spiffe-id.ts';
import { Fault } from '../../../runtime/fault.ts';
import type { ClusterConfig } from './k8s-psat-config.ts';
import { KubeApi, type TokenReview } from './kube-api.ts';
import type { AttestedNode, NodeAttestor } from './node-attestor.ts';

export interface K8sPsatOptions {
  readonly trustDomain: TrustDomain;
  readonly clusters: Readonly<Record<string, ClusterConfig>>;
}

const LONGEST_TOKEN = 16_384;
const USER = /^system:serviceaccount:([^:]+):([^:]+)$/;
const POD_NAME = 'authentication.kubernetes.io/pod-name';
const POD_UID = 'authentication.kubernetes.io/pod-uid';

const evidenceSchema = v.object({
  cluster: v.pipe(v.string(), v.minLength(1), v.maxLength(64)),
  token: v.pipe(v.string(), v.regex(/^[A-Za-z0-9._~+/=-]+$/), v.maxLength(LONGEST_TOKEN)),
});

interface Cluster {
  readonly config: ClusterConfig;
  readonly api: KubeApi;
}

/** A pod as its token names it. */
interface PodName {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly name: string;
  readonly uid: string;
}

export function k8sPsatAttestor({ trustDomain, clusters }: K8sPsatOptions): NodeAttestor {
  const known = new Map(
    Object.entries(clusters).map(([name, config]) => [name, { config, api: apiOf(config) }]),
  );

  async function attest(evidence: Uint8Array): Promise<AttestedNode> {
    const { cluster: name, token } = readEvidence(evidence);
    const cluster = known.get(name);
    if (cluster === undefined) throw denied('no cluster of that name is configured');
    const pod = await reviewedPod(cluster, token);
    const { uid, selectors } = await whereItRuns(cluster, pod);
    return {
      agentId: agentId(trustDomain, name, uid),
      selectors: [`cluster:${name}`, ...selectors],
      canReattest: true,
    };
  }

  return { type: 'k8s_psat', attest };
}

function apiOf({ api_server: server, ca_file: caFile, token_file: tokenFile }: ClusterConfig) {
  return new KubeApi({ server, caFile, tokenFile });
}

async function reviewedPod({ config, api }: Cluster, token: string): Promise<PodName> {
  const review = await api.reviewToken(token, config.audience);
  if (!review.authenticated) throw denied('the API server does not know the token');
  if (!review.audiences.some((one) => config.audience.includes(one)))
    throw denied('the token is for another audience');
  const [, namespace, serviceAccount] = USER.exec(review.user?.username ?? '') ?? [];
  if (namespace === undefined || serviceAccount === undefined)
    throw denied('the token is not of a service account');
  if (!config.service_account_allow_list.includes(`${namespace}:${serviceAccount}`))
    throw denied(`service account ${namespace}:${serviceAccount} is not on the allow list`);
  const [name, uid] = [only(review, POD_NAME), only(review, POD_UID)];
  return { namespace, serviceAccount, name, uid };
}

async function whereItRuns({ config, api }: Cluster, named: PodName) {
  const { namespace, serviceAccount, name, uid } = named;
  const pod = await api.pod(namespace, name);
  if (pod === undefined || pod.metadata.uid !== uid) throw denied('the pod has gone');
  const { nodeName } = pod.spec;
  const node = await api.node(nodeName);
  if (node === undefined) throw denied('the node of the pod has gone');
  const podLabels = picked(pod.metadata.labels, config.allowed_pod_label_keys);
  const nodeLabels = picked(node.metadata.labels, config.allowed_node_label_keys);
  return {
    uid: node.metadata.uid,
    selectors: [
      `agent_ns:${namespace}`,
      `agent_sa:${serviceAccount}`,
      `agent_pod_name:${name}`,
      `agent_pod_uid:${uid}`,
      ...(pod.status.hostIP === '' ? [] : [`agent_node_ip:${pod.status.hostIP}`]),
      `agent_node_name:${nodeName}`,
      `agent_node_uid:${node.metadata.uid}`,
      ...podLabels.map((label) => `agent_pod_label:${label}`),
      ...nodeLabels.map((label) => `agent_node_label:${label}`),
    ],
  };
}

/** Labels of these keys, as `key:value`. */
function picked(labels: Readonly<Record<string, string>>, keys: readonly string[]): string[] {
  return keys.flatMap((key) => (Object.hasOwn(labels, key) ? [`${key}:${labels[key]}`] : []));
}

function only({ user }: TokenReview, key: string): string {
  const values = user?.extra[key] ?? [];
  const [value] = values;
  if (values.length === 1 && value !== undefined && value !== '') return value;
  throw denied('the token is not bound to a pod');
}

function agentId(trustDomain: TrustDomain, cluster: string, nodeUid: string): SpiffeId {
  try {
    return SpiffeId.fromSegments(trustDomain, 'spire', 'agent', 'k8s_psat', cluster, nodeUid);
  } catch {
    throw denied('the uid of the node makes no SPIFFE ID');
  }
}

function readEvidence(evidence: Uint8Array): v.InferOutput<typeof evidenceSchema> {
  try {
    return v.parse(evidenceSchema, JSON.parse(Buffer.from(evidence).toString('utf8')));
  } catch {
    // Its cause would hold the token.
    throw new Fault('INVALID_ARGUMENT', 'the attestation payload has no cluster and token');
  }
}

function denied(reason: string): Fault {
  return new Fault('ATTESTATION_DENIED', 'the token does not prove this node', { cause: reason });
}
