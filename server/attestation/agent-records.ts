import type { SpiffeId } from '../../identity/spiffe-id.ts';
import type { Reader, Row } from '../plugins/datastore/datastore.ts';
import { instant, integer, optionalText, text } from '../plugins/datastore/row.ts';
import { type Selector, selectorsFromJson } from '../registry/selectors.ts';

/** An attested node. */
export interface AgentRecord {
  readonly id: string;
  readonly attestationType: string;
  /** Of the SVID it uses, lower-case hex; empty once banned. */
  readonly serial: string;
  readonly expiresAt: Date;
  /** When it began to use that SVID; the epoch if it was taken over from elsewhere. */
  readonly currentSince: Date;
  /** Of the SVID that becomes the current one on first use. */
  readonly newSerial: string | undefined;
  readonly isBanned: boolean;
  readonly canReattest: boolean;
  readonly selectors: readonly Selector[];
  readonly version: string;
}

/** One agent, undefined if it is not attested. */
export async function findAgent(
  reader: Reader,
  id: SpiffeId | string,
): Promise<AgentRecord | undefined> {
  const row = await reader.get('select * from agents where id = ?', String(id));
  return row === undefined ? undefined : agentFromRow(row);
}

/** All agents, in the order of their ids. */
export async function listAgents(reader: Reader): Promise<AgentRecord[]> {
  const rows = await reader.all('select * from agents order by id');
  return rows.map(agentFromRow);
}

/**
 * Attestors whose evidence counts once because the store says so, whether the agent is there or not. (Of
 * those that trust the first use, such as a cloud's documents, the agent is all that remembers it.)
 */
const ONE_TIME_TYPES = ['join_token', 'oidc'] as const;

/** Which agents count as gone: their SVIDs ended before these instants. */
export interface GoneBefore {
  readonly oneTime: Date;
  /** Undefined: none that can attest again. */
  readonly reattestable: Date | undefined;
}

/**
 * The ids of agents that are gone, and that nothing refers to which still lives; never those that are
 * banned.
 */
export async function listGoneAgents(
  reader: Reader,
  { oneTime, reattestable }: GoneBefore,
  { now, limit }: { readonly now: Date; readonly limit: number },
): Promise<string[]> {
  const types = ONE_TIME_TYPES.map(() => '?').join(', ');
  const rows = await reader.all(
    `select id from agents a
     where banned = 0 and not_after_ms <= ? and coalesce(new_not_after_ms, 0) <= ?
       and (can_reattest = 1 and not_after_ms <= ?
            or can_reattest = 0 and not_after_ms <= ? and attestation_type in (${types}))
       and not exists (select 1 from ledger l where l.agent_id = a.id and l.not_after_ms > ?
                         and l.kind in ('x509', 'agent', 'server'))
     limit ?`,
    ...[now.getTime(), now.getTime()],
    // Before the first instant there is, nothing has ended.
    reattestable?.getTime() ?? -1,
    ...[oneTime.getTime(), ...ONE_TIME_TYPES, now.getTime(), limit],
  );
  return rows.map((row) => text(row, 'id'));
}

function agentFromRow(row: Row): AgentRecord {
  return {
    id: text(row, 'id'),
    attestationType: text(row, 'attestation_type'),
    serial: text(row, 'serial'),
    expiresAt: instant(row, 'not_after_ms'),
    currentSince: instant(row, 'current_since_ms'),
    newSerial: optionalText(row, 'new_serial'),
    isBanned: integer(row, 'banned') !== 0,
    canReattest: integer(row, 'can_reattest') !== 0,
    selectors: selectorsFromJson(text(row, 'selectors')),
    version: text(row, 'version'),
  };
}
