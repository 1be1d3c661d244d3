import * as v from 'valibot';
import { trustDomainValue } from '../identity/trust-domain-value.ts';
import { absolutePath, hostPort, logSection } from '../runtime/config.ts';

/** An agent's configuration file. */
export const agentConfigSchema = v.strictObject({
  trust_domain: trustDomainValue,
  /** For its owner alone; made if it is not there. */
  state_dir: absolutePath,
  server: hostPort,
  /** Needed while `state_dir` holds no SVID. */
  join_string_file: v.optional(absolutePath),
  /** Path of the Workload API's socket, for everybody. */
  workload_api: absolutePath,
  /** Path of the ssh-agent's socket, for everybody; without it there is none. */
  ssh_agent: v.optional(absolutePath),
  health: hostPort,
  log: logSection,
});

export type AgentConfig = v.InferOutput<typeof agentConfigSchema>;
