import { SpiffeId, type TrustDomain } from '../../../identity/spiffe-id.ts';
import { Fault } from '../../../runtime/fault.ts';

const PLACE = /\{\{\s*\.([A-Za-z][A-Za-z0-9.]*)\s*\}\}/g;
const LONGEST = 1024;

/** Makes the path of an agent's SPIFFE ID from facts that its attestor has proved. */
export interface AgentPathTemplate {
  /** @throws Fault ATTESTATION_DENIED if the facts make no path */
  agentId(trustDomain: TrustDomain, facts: Readonly<Record<string, string>>): SpiffeId;
}

/**
 * A template in the form that SPIRE's configurations have, e.g. `/{{ .PluginName }}/{{ .Fingerprint }}`:
 * fields alone, no functions.
 * @param fields what the attestor can tell
 * @throws Fault CONFIG_INVALID
 */
export function agentPathTemplate(
  field: string,
  template: string,
  fields: readonly string[],
): AgentPathTemplate {
  const used = [...template.matchAll(PLACE)].map(([, name]) => name ?? '');
  const unknown = used.find((name) => !fields.includes(name));
  const known = fields.map((name) => `{{ .${name} }}`).join(', ');
  if (unknown !== undefined)
    throw invalid(`${field}: there is no {{ .${unknown} }}, only ${known}`);
  const rest = template.replace(PLACE, '');
  if (rest.includes('{{') || rest.includes('}}'))
    throw invalid(`${field}: only fields can stand between braces: ${known}`);
  if (!template.startsWith('/') || template.length > LONGEST)
    throw invalid(`${field}: write a path that begins with /, of at most ${LONGEST} characters`);
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
