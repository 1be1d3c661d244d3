/**
 * Node attestor `azure_msi`: a token of a virtual machine's own (system-assigned) managed identity. On
 * the wire as SPIRE's: `{"token"}`. An identity that several machines share proves none of them.
 *
 * Source: Microsoft, "Access tokens in the Microsoft identity platform", claims of v1.0 tokens.
 */
import * as v from 'valibot';
import { Fault } from '../../../runtime/fault.ts';
import {
  type CloudTokenOptions,
  cloudAgentId,
  takeCloudToken,
  verifyCloudToken,
} from './cloud-token.ts';
import type { IssuerKeys } from './jwks.ts';
import type { AttestedNode, NodeAttestor } from './node-attestor.ts';
import { denied } from './oidc-token.ts';

export interface AzureMsiOptions extends CloudTokenOptions {
  /** One of them must be the token's. */
  readonly tenants: readonly AzureTenant[];
}

export interface AzureTenant {
  readonly id: string;
  /** The resource that the tokens are for. */
  readonly audience: string;
  /** In lower case. */
  readonly subscriptionIds: readonly string[];
  readonly keys: IssuerKeys;
}

/** Its tokens say that they were issued five minutes before they were. */
const OLDEST_MS = (300 + 120) * 1000;
const MACHINE =
  /^\/subscriptions\/([0-9a-f-]{36})\/resourcegroups\/([^/]{1,90})\/providers\/microsoft\.compute\/(virtualmachines\/[^/]{1,64}|virtualmachinescalesets\/[^/]{1,64}\/virtualmachines\/[^/]{1,64})$/i;

const payloadSchema = v.object({ token: v.pipe(v.string(), v.minLength(1)) });
const claimsSchema = v.object({
  sub: v.pipe(v.string(), v.minLength(1)),
  xms_mirid: v.string(),
});

export function azureMsiAttestor(options: AzureMsiOptions): NodeAttestor {
  async function attest(evidence: Uint8Array): Promise<AttestedNode> {
    const text = readPayload(evidence);
    const tenant = tenantOf(text, options.tenants);
    const issuer = issuerOf(tenant);
    const rules = { issuer, audience: tenant.audience, keys: tenant.keys, oldestMs: OLDEST_MS };
    const token = await verifyCloudToken(text, rules, options);
    const { principal, subscription, group, name } = machineOf(token.claims);
    if (!tenant.subscriptionIds.includes(subscription))
      throw denied('its subscription is not on the list');
    const agentId = cloudAgentId(options.trustDomain, 'azure_msi', tenant.id, principal);
    await takeCloudToken(token, issuer, options);
    return {
      agentId,
      selectors: [`subscription-id:${subscription}`, `vm-name:${group}:${name}`],
      canReattest: false,
      firstUseOnly: true,
    };
  }

  return { type: 'azure_msi', attest };
}

function issuerOf({ id }: AzureTenant): string {
  return `https://sts.windows.net/${id}/`;
}

/** The tenant that the token says it is of; whether it is, its signature tells later. */
function tenantOf(token: string, tenants: readonly AzureTenant[]): AzureTenant {
  const body = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('latin1');
  const found = tenants.find((tenant) => body.includes(JSON.stringify(issuerOf(tenant))));
  if (found === undefined) throw denied('it is of no configured tenant');
  return found;
}

function machineOf(claims: unknown) {
  const parsed = v.safeParse(claimsSchema, claims);
  if (!parsed.success) throw denied('it names no resource');
  const [, subscription, group, path] = MACHINE.exec(parsed.output.xms_mirid) ?? [];
  if (subscription === undefined || group === undefined || path === undefined)
    throw denied('its resource is no virtual machine');
  const name = path
    .split('/')
    .filter((_, at) => at % 2 === 1)
    .join('_');
  return { principal: parsed.output.sub, subscription: subscription.toLowerCase(), group, name };
}

function readPayload(evidence: Uint8Array): string {
  try {
    return v.parse(payloadSchema, JSON.parse(Buffer.from(evidence).toString('utf8'))).token;
  } catch {
    // Its cause would hold the token.
    throw new Fault('INVALID_ARGUMENT', 'the attestation payload has no token');
  }
}
