import { SpiffeId, type TrustDomain } from '../../../identity/spiffe-id.ts';
import { Fault } from '../../../runtime/fault.ts';

const PLACE = /\{\{\s*\.([A-Za-z][A-Za-z0-9.]*)\s*\}\}/g;
const PLUGIN_NAME = /\{\{\s*\.PluginName\s*\}\}/;
const LONGEST = 1024;

/** Makes the path of an agent's SPIFFE ID from facts that its attestor has proved. */
export interface AgentPathTemplate {
  /** @throws Fault ATTESTATION_DENIED if the facts make no path */
  agentId(trustDomain: TrustDomain, facts: Readonly<Record<string, string>>): SpiffeId;
}

/** Of an attestor, for its templates. */
export interface AgentPathFacts {
  /** Its type, which is PluginName too. */
  readonly plugin: string;
  /** What it can tell of a node. */
  readonly fields: readonly string[];
}

/**
 * A template in the form that SPIRE's configurations have, e.g. `/{{ .PluginName }}/{{ .Fingerprint }}`:
 * fields alone, no functions.
 * @throws Fault CONFIG_INVALID
 */
export function agentPathTemplate(
  field: string,
  template: string,
  { plugin, fields }: AgentPathFacts,
): AgentPathTemplate {
  const used = [...template.matchAll(PLACE)].map(([, name]) => name ?? '');
  const unknown = used.find((name) => !fields.includes(name));
  const known = fields.map((name) => `{{ .${name} }}`).join(', ');
  if (unknown !== undefined)
    throw invalid(`${field}: there is no {{ .${unknown} }}, only ${known}`);
  const rest = template.replace(PLACE, '');
  if (rest.includes('{{') || rest.includes('}}'))
    throw invalid(`${field}: only fields can stand between braces: ${known}`);
  // One attestor must not name the agents of another.
  const isOwn = template.replace(PLUGIN_NAME, plugin).startsWith(`/${plugin}/`);
  if (!isOwn || template.length > LONGEST)
    throw invalid(
      `${field}: write a path that begins with /{{ .PluginName }}/, of at most ${LONGEST} characters`,
    );
  if (!used.some((name) => name !== 'PluginName' && name !== 'TrustDomain'))
    throw invalid(`${field}: every agent would have the same ID: use one of ${known}`);
  return {
    agentId(trustDomain, facts) {
      const path = template.replace(PLACE, (_, name: string) => facts[name] ?? '');
      try {
        return SpiffeId.parse(`spiffe://${trustDomain}/spire/agent${path}`);
      } catch (error) {
        throw new Fault('ATTESTATION_DENIED', 'the facts of this node make no SPIFFE ID', {
          cause: error,
        });
      }
    },
  };
}

function invalid(message: string): Fault {
  return new Fault('CONFIG_INVALID', message);
}
