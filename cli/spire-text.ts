/** What people type for SPIRE's messages, and how those are shown. */
import { SpiffeId } from '../identity/spiffe-id.ts';
import type { Agent } from '../proto/gen/spire/api/types/agent_pb.ts';
import type { Entry } from '../proto/gen/spire/api/types/entry_pb.ts';
import type { Selector } from '../proto/gen/spire/api/types/selector_pb.ts';
import type { SPIFFEID } from '../proto/gen/spire/api/types/spiffeid_pb.ts';
import { Fault } from '../runtime/fault.ts';
import { isoSeconds } from './time.ts';

/** @throws Fault SPIFFE_ID_INVALID */
export function idMessage(text: string): { trustDomain: string; path: string } {
  const { trustDomain, path } = SpiffeId.parse(text);
  return { trustDomain, path };
}

export function idText(id: SPIFFEID | undefined): string {
  return id === undefined ? '' : `spiffe://${id.trustDomain}${id.path}`;
}

/**
 * `type:value`, e.g. `unix:uid:1000`; the value may hold colons.
 * @throws Fault USAGE
 */
export function selectorMessage(text: string): { type: string; value: string } {
  const colon = text.indexOf(':');
  if (colon < 1 || colon === text.length - 1) {
    const hint = 'write type:value, such as unix:uid:1000';
    throw new Fault('USAGE', `--selector ${JSON.stringify(text)}: ${hint}`);
  }
  return { type: text.slice(0, colon), value: text.slice(colon + 1) };
}

export function selectorText({ type, value }: Selector): string {
  return `${type}:${value}`;
}

/** An entry as listings show it. */
export function entryRecord(entry: Entry) {
  return {
    id: entry.id,
    spiffe_id: idText(entry.spiffeId),
    parent_id: idText(entry.parentId),
    selectors: entry.selectors.map(selectorText).join(' '),
    x509_svid_ttl: entry.x509SvidTtl,
    dns_names: entry.dnsNames.join(' '),
    hint: entry.hint,
    expires_at: isoSeconds(entry.expiresAt),
    revision: Number(entry.revisionNumber),
  };
}

/** An agent as listings show it. */
export function agentRecord(agent: Agent) {
  return {
    id: idText(agent.id),
    attestation_type: agent.attestationType,
    serial_number: agent.x509svidSerialNumber,
    expires_at: isoSeconds(agent.x509svidExpiresAt),
    banned: String(agent.banned),
    version: agent.agentVersion,
    selectors: agent.selectors.map(selectorText).join(' '),
  };
}

/**
 * The one item of a batch answer.
 * @throws Fault with the item's status
 */
export function onlyResult<R extends { status?: { code: number; message: string } | undefined }>(
  results: readonly R[],
): R {
  const [result] = results;
  if (result === undefined) throw new Fault('INTERNAL', 'the server answered no item');
  const status = result.status ?? { code: 0, message: '' };
  if (status.code === 0) return result;
  const codes = { 3: 'INVALID_ARGUMENT', 5: 'NOT_FOUND', 6: 'ALREADY_EXISTS' } as const;
  const code = codes[status.code as keyof typeof codes] ?? 'FAILED_PRECONDITION';
  throw new Fault(code, status.message);
}
