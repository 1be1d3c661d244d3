import * as v from 'valibot';
import { parseTrustDomain, type TrustDomain } from '../identity/spiffe-id.ts';
import { absolutePath, hostPort } from '../runtime/config.ts';

const trustDomain = v.pipe(
  v.string(),
  v.rawTransform<string, TrustDomain>(({ dataset, addIssue, NEVER }) => {
    try {
      return parseTrustDomain(dataset.value);
    } catch {
      addIssue({ message: 'a trust domain name, such as example.org' });
      return NEVER;
    }
  }),
);

/** An agent's configuration file. */
export const agentConfigSchema = v.strictObject({
  trust_domain: trustDomain,
  /** For its owner alone; made if it is not there. */
  state_dir: absolutePath,
  server: hostPort,
  /** Needed while `state_dir` holds no SVID. */
  join_string_file: v.optional(absolutePath),
  /** Path of the Workload API's socket, for everybody. */
  workload_api: absolutePath,
  health: hostPort,
  log: v.optional(
    v.strictObject({
      level: v.optional(v.picklist(['debug', 'info', 'warn', 'error']), 'info'),
    }),
    {},
  ),
});

export type AgentConfig = v.InferOutput<typeof agentConfigSchema>;
