/** The plugins of an agent; no other file imports an implementation. */
import type { Clock } from '../../runtime/clock.ts';
import type { AgentConfig } from '../config.ts';
import { awsIidNodeAttestor } from './node-attestor/aws-iid.ts';
import { azureMsiNodeAttestor } from './node-attestor/azure-msi.ts';
import { gcpIitNodeAttestor } from './node-attestor/gcp-iit.ts';
import { joinTokenNodeAttestor } from './node-attestor/join-token.ts';
import { k8sPsatNodeAttestor } from './node-attestor/k8s-psat.ts';
import type { NodeAttestor } from './node-attestor/node-attestor.ts';
import { oidcNodeAttestor } from './node-attestor/oidc.ts';
import { x509PopNodeAttestor } from './node-attestor/x509pop.ts';
import { unixWorkloadAttestor } from './workload-attestor/unix.ts';
import type { WorkloadAttestor } from './workload-attestor/workload-attestor.ts';

/** How a node proves itself that was given a join token. */
export function joinTokenAttestor(options: { readonly token: string }): NodeAttestor {
  return joinTokenNodeAttestor(options);
}

/** How this node proves itself, as its configuration says. */
export function nodeAttestor(configured: NonNullable<AgentConfig['node_attestor']>): NodeAttestor {
  const { x509pop, k8s_psat: k8sPsat, oidc } = configured;
  if (x509pop !== undefined)
    return x509PopNodeAttestor({
      certificateFile: x509pop.certificate_file,
      privateKeyFile: x509pop.private_key_file,
    });
  if (k8sPsat !== undefined)
    return k8sPsatNodeAttestor({ cluster: k8sPsat.cluster, tokenFile: k8sPsat.token_file });
  if (oidc !== undefined)
    return oidcNodeAttestor({ provider: oidc.provider, tokenFile: oidc.token_file });
  return cloudAttestor(configured);
}

function cloudAttestor({
  aws_iid: aws,
  gcp_iit: gcp,
  azure_msi: azure,
}: NonNullable<AgentConfig['node_attestor']>): NodeAttestor {
  if (aws !== undefined) return awsIidNodeAttestor({ metadataUrl: aws.metadata_url });
  if (gcp !== undefined)
    return gcpIitNodeAttestor({
      ...{ metadataUrl: gcp.metadata_url, audience: gcp.audience },
      serviceAccount: gcp.service_account,
    });
  if (azure !== undefined)
    return azureMsiNodeAttestor({ metadataUrl: azure.metadata_url, audience: azure.audience });
  throw new Error('a node attestor that the catalog does not know');
}

/** How callers of the Workload API are known. */
export function workloadAttestors(options: { readonly clock: Clock }): readonly WorkloadAttestor[] {
  return [unixWorkloadAttestor(options)];
}
