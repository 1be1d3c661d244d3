/** The plugins of an agent; no other file imports an implementation. */
import type { Clock } from '../../runtime/clock.ts';
import type { AgentConfig } from '../config.ts';
import { joinTokenNodeAttestor } from './node-attestor/join-token.ts';
import type { NodeAttestor } from './node-attestor/node-attestor.ts';
import { x509PopNodeAttestor } from './node-attestor/x509pop.ts';
import { unixWorkloadAttestor } from './workload-attestor/unix.ts';
import type { WorkloadAttestor } from './workload-attestor/workload-attestor.ts';

/** How a node proves itself that was given a join token. */
export function joinTokenAttestor(options: { readonly token: string }): NodeAttestor {
  return joinTokenNodeAttestor(options);
}

/** How this node proves itself, as its configuration says. */
export function nodeAttestor(configured: NonNullable<AgentConfig['node_attestor']>): NodeAttestor {
  const { x509pop } = configured;
  if (x509pop !== undefined)
    return x509PopNodeAttestor({
      certificateFile: x509pop.certificate_file,
      privateKeyFile: x509pop.private_key_file,
    });
  throw new Error('a node attestor that the catalog does not know');
}

/** How callers of the Workload API are known. */
export function workloadAttestors(options: { readonly clock: Clock }): readonly WorkloadAttestor[] {
  return [unixWorkloadAttestor(options)];
}
