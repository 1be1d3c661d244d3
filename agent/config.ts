import * as v from 'valibot';
import { trustDomainValue } from '../identity/trust-domain-value.ts';
import { absolutePath, hostPort, logSection } from '../runtime/config.ts';

/** How the node proves itself where it has no join token; one of them. */
const nodeAttestor = v.pipe(
  v.strictObject({
    x509pop: v.optional(
      v.strictObject({
        /** PEM: the node's certificate first, then up to four intermediates. */
        certificate_file: absolutePath,
        /** PEM, readable for the agent's user alone. */
        private_key_file: absolutePath,
      }),
    ),
  }),
  v.check((attestors) => Object.keys(attestors).length === 1, 'exactly one attestor'),
);

/** An agent's configuration file. */
export const agentConfigSchema = v.strictObject({
  trust_domain: trustDomainValue,
  /** For its owner alone; made if it is not there. */
  state_dir: absolutePath,
  server: hostPort,
  /** Needed while `state_dir` holds no SVID. */
  join_string_file: v.optional(absolutePath),
  node_attestor: v.optional(nodeAttestor),
  /** PEM: the trust domain's roots, by which the server is known at first contact without a join string. */
  trust_bundle_file: v.optional(absolutePath),
  /** Trusts whoever answers at first contact. */
  insecure_bootstrap: v.optional(v.boolean(), false),
  /** Path of the Workload API's socket, for everybody. */
  workload_api: absolutePath,
  /** Path of the ssh-agent's socket, for everybody; without it there is none. */
  ssh_agent: v.optional(absolutePath),
  health: hostPort,
  log: logSection,
});

export type AgentConfig = v.InferOutput<typeof agentConfigSchema>;
