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
