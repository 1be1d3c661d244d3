/** Node attestor `k8s_psat`: shows the pod's projected service account token. On the wire as SPIRE's. */
import { noChallenge } from './no-challenge.ts';
import type { NodeAttestor } from './node-attestor.ts';
import { readTokenFile } from './token-file.ts';

export interface K8sPsatNodeOptions {
  /** As the server's configuration names it. */
  readonly cluster: string;
  /** Read at each attestation: the kubelet renews it. */
  readonly tokenFile: string;
}

export function k8sPsatNodeAttestor({ cluster, tokenFile }: K8sPsatNodeOptions): NodeAttestor {
  return {
    type: 'k8s_psat',
    canReattest: true,
    evidence: async () =>
      Buffer.from(JSON.stringify({ cluster, token: await readTokenFile(tokenFile) })),
    answer: noChallenge,
  };
}
