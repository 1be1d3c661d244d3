/**
 * Node attestor `gcp_iit`: the identity token of a Compute Engine instance. On the wire as SPIRE's: the
 * token itself, in full format.
 *
 * Source: Google Cloud, "Verify VM identity".
 */
import * as v from 'valibot';
import {
  type CloudTokenOptions,
  cloudAgentId,
  takeCloudToken,
  verifyCloudToken,
} from './cloud-token.ts';
import type { IssuerKeys } from './jwks.ts';
import type { AttestedNode, NodeAttestor } from './node-attestor.ts';
import { denied } from './oidc-token.ts';

export interface GcpIitOptions extends CloudTokenOptions {
  /** Whose instances are agents: Google signs for all its customers. */
  readonly projectIds: readonly string[];
  readonly audience: string;
  readonly keys: IssuerKeys;
}

const ISSUER = 'https://accounts.google.com';

const claimsSchema = v.object({
  google: v.object({
    compute_engine: v.object({
      project_id: v.string(),
      instance_id: v.pipe(v.string(), v.regex(/^\d+$/)),
      instance_name: v.string(),
      zone: v.string(),
    }),
  }),
});

export function gcpIitAttestor(options: GcpIitOptions): NodeAttestor {
  const { trustDomain, projectIds, audience, keys } = options;

  async function attest(evidence: Uint8Array): Promise<AttestedNode> {
    const text = Buffer.from(evidence).toString('latin1');
    const token = await verifyCloudToken(text, { issuer: ISSUER, audience, keys }, options);
    const parsed = v.safeParse(claimsSchema, token.claims);
    if (!parsed.success) throw denied('it is of no instance, or not in full format');
    const instance = parsed.output.google.compute_engine;
    const { project_id: project, instance_id: id, instance_name: name, zone } = instance;
    if (!projectIds.includes(project)) throw denied('its project is not on the list');
    const agentId = cloudAgentId(trustDomain, 'gcp_iit', project, id);
    await takeCloudToken(token, ISSUER, options);
    return {
      agentId,
      selectors: [`project-id:${project}`, `zone:${zone}`, `instance-name:${name}`],
      canReattest: false,
      firstUseOnly: true,
    };
  }

  return { type: 'gcp_iit', attest };
}
