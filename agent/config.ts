import * as v from 'valibot';
import { trustDomainValue } from '../identity/trust-domain-value.ts';
import { absolutePath, hostPort, logSection } from '../runtime/config.ts';

/** Of a cloud's metadata service; it is asked over http, on the machine itself. */
const metadataUrl = (byDefault: string) =>
  v.optional(v.pipe(v.string(), v.regex(/^http:\/\/[^/?#@]+$/, 'http://host')), byDefault);
const LINK_LOCAL = 'http://169.254.169.254';
const text = v.pipe(v.string(), v.minLength(1), v.maxLength(256));

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
    k8s_psat: v.optional(
      v.strictObject({
        /** As the server's configuration names it. */
        cluster: text,
        token_file: v.optional(absolutePath, '/var/run/secrets/tokens/spire-agent'),
      }),
    ),
    oidc: v.optional(
      v.strictObject({
        /** The issuer's name in the server's configuration. */
        provider: text,
        token_file: absolutePath,
      }),
    ),
    aws_iid: v.optional(v.strictObject({ metadata_url: metadataUrl(LINK_LOCAL) })),
    gcp_iit: v.optional(
      v.strictObject({
        metadata_url: metadataUrl('http://metadata.google.internal'),
        service_account: v.optional(text, 'default'),
        audience: v.optional(text, 'spire-gcp-node-attestor'),
      }),
    ),
    azure_msi: v.optional(
      v.strictObject({ metadata_url: metadataUrl(LINK_LOCAL), audience: text }),
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
