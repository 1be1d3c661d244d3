/** The plugins of an agent; no other file imports an implementation. */
import type { Clock } from '../../runtime/clock.ts';
import { joinTokenNodeAttestor } from './node-attestor/join-token.ts';
import type { NodeAttestor } from './node-attestor/node-attestor.ts';
import { unixWorkloadAttestor } from './workload-attestor/unix.ts';
import type { WorkloadAttestor } from './workload-attestor/workload-attestor.ts';

/** How this node proves itself. */
export function nodeAttestor(options: { readonly token: string }): NodeAttestor {
  return joinTokenNodeAttestor(options);
}

/** How callers of the Workload API are known. */
export function workloadAttestors(options: { readonly clock: Clock }): readonly WorkloadAttestor[] {
  return [unixWorkloadAttestor(options)];
}
