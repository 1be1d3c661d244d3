import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { Agent } from '../../proto/gen/spire/api/types/agent_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor } from '../access/actor.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import { withoutToken } from '../registry/join-token-ids.ts';
import type { RegistryChanges } from '../registry/registry-changes.ts';
import { type Selector, selectorsToJson } from '../registry/selectors.ts';
import { memberId } from '../registry/spiffe-id-message.ts';
import { findAgent } from './agent-records.ts';

/** `known`: it stands here already and stays as it is. `expired`: it has to attest anew anyway. */
export type ImportOutcome = 'imported' | 'known' | 'expired';

export interface ImportAgentsOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly changes: RegistryChanges;
  readonly trustDomain: TrustDomain;
}

/** RFC 5280 4.1.2.2: at most 20 octets. */
const SERIAL = /^[1-9][0-9]{0,48}$/;
const LAST_SECOND = 253_402_300_799n;
const MAXIMUM_AGENTS = 1000;
const MAXIMUM_SELECTORS = 256;
const MAXIMUM_SELECTOR = 2048;
const MAXIMUM_TYPE = 64;

/**
 * Takes over nodes that another server of this trust domain has attested, all in one transaction. A
 * banned one stays banned.
 * @param agents untrusted, as SPIRE's ListAgents shows them
 * @throws Fault INVALID_ARGUMENT, with the place in the list
 */
export async function importAgents(
  options: ImportAgentsOptions,
  agents: readonly Agent[],
  actor: Actor,
): Promise<ImportOutcome[]> {
  const { store, trustDomain, clock } = options;
  if (agents.length > MAXIMUM_AGENTS)
    throw new Fault('INVALID_ARGUMENT', `agents: more than ${MAXIMUM_AGENTS} in one call`);
  const checked = agents.map((agent, index) => checkAgent(agent, `agents[${index}]`, trustDomain));
  return store.transaction(async (tx) => {
    const outcomes: ImportOutcome[] = [];
    for (const agent of checked) {
      if ((await findAgent(tx, agent.id)) !== undefined) outcomes.push('known');
      else if (!agent.isBanned && agent.notAfter <= clock.now()) outcomes.push('expired');
      else {
        await insert(tx, options, agent, actor);
        await options.changes.record(tx, { kind: 'agent', id: agent.id });
        outcomes.push('imported');
      }
    }
    return outcomes;
  });
}

interface CheckedAgent {
  readonly id: string;
  readonly type: string;
  /** Lower-case hex; empty once banned. */
  readonly serial: string;
  readonly notAfter: Date;
  readonly isBanned: boolean;
  readonly canReattest: boolean;
  readonly selectors: readonly Selector[];
}

function checkAgent(agent: Agent, at: string, trustDomain: TrustDomain): CheckedAgent {
  const id = withoutToken(memberId(agent.id, trustDomain, `${at}.id`));
  const type = agent.attestationType;
  if (!id.path.startsWith('/spire/agent/')) throw invalid(`${at}.id`, 'not an agent ID');
  if (!/^[a-z0-9_]+$/.test(type) || type.length > MAXIMUM_TYPE)
    throw invalid(`${at}.attestation_type`, 'not the name of an attestor');
  if (!agent.banned && !SERIAL.test(agent.x509svidSerialNumber))
    throw invalid(`${at}.x509svid_serial_number`, 'not a decimal serial number');
  const ends = agent.x509svidExpiresAt;
  if (ends < 0n || ends > LAST_SECOND)
    throw invalid(`${at}.x509svid_expires_at`, 'no Unix second up to year 9999');
  if (agent.selectors.length > MAXIMUM_SELECTORS || !agent.selectors.every(isSelector))
    throw invalid(`${at}.selectors`, 'too many, or one without type or value');
  return {
    id: id.toString(),
    type,
    serial: agent.banned ? '' : hexSerial(agent.x509svidSerialNumber),
    notAfter: new Date(Number(ends) * 1000),
    isBanned: agent.banned,
    canReattest: agent.canReattest,
    selectors: agent.selectors.map(({ type, value }) => ({ type, value })),
  };
}

function isSelector({ type, value }: Selector): boolean {
  const isType = type !== '' && type.length <= MAXIMUM_TYPE && !type.includes(':');
  return isType && value !== '' && value.length <= MAXIMUM_SELECTOR;
}

/** As a certificate's serial is told here: whole octets, those of its INTEGER. */
function hexSerial(decimal: string): string {
  const hex = BigInt(decimal).toString(16);
  return hex.length % 2 === 0 ? hex : `0${hex}`;
}

async function insert(
  tx: Transaction,
  { clock, audit }: ImportAgentsOptions,
  agent: CheckedAgent,
  actor: Actor,
): Promise<void> {
  await tx.run(
    `insert into agents (id, attestation_type, serial, not_after_ms, banned, can_reattest, selectors,
       attested_at_ms)
     values (?, ?, ?, ?, ?, ?, ?, ?)`,
    agent.id,
    agent.type,
    agent.serial,
    agent.notAfter.getTime(),
    agent.isBanned ? 1 : 0,
    agent.canReattest ? 1 : 0,
    selectorsToJson(agent.selectors),
    clock.now().getTime(),
  );
  await audit.append(tx, {
    type: 'agent.imported',
    outcome: Outcome.SUCCESS,
    actor,
    agentId: agent.id,
    svidSerial: agent.serial,
    attributes: { node_attestor: agent.type, banned: String(agent.isBanned) },
  });
}

function invalid(field: string, what: string): Fault {
  return new Fault('INVALID_ARGUMENT', `${field}: ${what}`);
}
