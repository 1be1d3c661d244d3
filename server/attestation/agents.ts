/**
 * Attested nodes. Whether an agent may act is asked of the store at each call: a ban, an eviction and
 * a renewal act on the next call of an open connection (facts/spiffe.md 3.2). Its serial is checked
 * too, so that a copied key is found out when its owner renews (threats S12).
 */
import type { SpiffeId } from '../../identity/spiffe-id.ts';
import { PermissionDeniedDetails_Reason as Reason } from '../../proto/gen/spire/api/types/status_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import { type Actor, type Called, SERVER_ACTOR } from '../access/actor.ts';
import type { Revocations } from '../access/revocations.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { RefusalCounter } from '../audit/refusal-counter.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import type { Entries } from '../registry/entries.ts';
import { withoutToken } from '../registry/join-token-ids.ts';
import type { RegistryChanges } from '../registry/registry-changes.ts';
import { type Selector, selectorsToJson } from '../registry/selectors.ts';
import { type AgentRecord, findAgent, type GoneBefore, listGoneAgents } from './agent-records.ts';
import { permissionDenied } from './permission-denied.ts';
import { isSupersededForLong } from './superseded-svid.ts';

const MAXIMUM_VERSION = 255;

export interface AgentsOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly audit: AuditLog;
  readonly refusals: RefusalCounter;
  readonly revocations: Revocations;
  readonly changes: RegistryChanges;
  readonly entries: Entries;
  /** What an agent gets beside an alarm when an SVID is used that it has replaced. */
  readonly onClone: 'alarm' | 'ban';
}

/** What an agent shows at a call. */
export interface AgentProof {
  readonly id: SpiffeId;
  readonly serial: string;
  readonly notAfter: Date;
  /** `ip:port` it calls from. */
  readonly address: string;
}

/** What an attestation has proved, and the SVID that was signed for it. */
export interface Attestation extends Called {
  readonly id: SpiffeId;
  readonly type: string;
  readonly selectors: readonly Selector[];
  readonly canReattest: boolean;
  readonly serial: string;
  readonly notAfter: Date;
}

/** How long after the end of its SVID an agent is forgotten. */
export interface PruningPeriods {
  /** Of an agent whose evidence counted once, and that so cannot come back. */
  readonly oneTimeSeconds: number;
  /** Of an agent that can attest again; undefined: never. */
  readonly reattestableSeconds: number | undefined;
}

interface ShutOut {
  readonly act: 'ban' | 'evict';
  /** Ends the sentence that its sessions end with. */
  readonly said: string;
  readonly reason?: string;
}

export class Agents {
  readonly #options: AgentsOptions;

  constructor(options: AgentsOptions) {
    this.#options = options;
  }

  /**
   * The record of an agent that may act now. The first use of a renewed SVID makes it the current one.
   * @throws Fault PERMISSION_DENIED with details that an agent acts on
   */
  async check(proof: AgentProof): Promise<AgentRecord> {
    const record = await this.#standing(proof);
    if (proof.serial === record.serial) return record;
    if (proof.serial === record.newSerial) return this.#activate(record, proof);
    this.#alarm(proof);
    await this.#banClone(record, proof.serial);
    throw permissionDenied('agent SVID is not active', Reason.AGENT_NOT_ACTIVE);
  }

  /**
   * The same for a call that `check` let through and that lasts. That it outlives a renewal is no
   * second use of the old SVID.
   * @throws Fault PERMISSION_DENIED as `check`, UNAVAILABLE once the SVID has been renewed
   */
  async recheck(proof: AgentProof): Promise<void> {
    const record = await this.#standing(proof);
    if (proof.serial !== record.serial && proof.serial !== record.newSerial)
      throw new Fault('UNAVAILABLE', 'the agent has a newer SVID: call again with that');
  }

  async #standing({ id, notAfter }: AgentProof): Promise<AgentRecord> {
    const { store, clock } = this.#options;
    if (notAfter <= clock.now())
      throw permissionDenied('agent SVID is expired', Reason.AGENT_EXPIRED);
    // The SVID of an agent that was taken over from SPIRE names it by its token.
    const record = await findAgent(store, withoutToken(id));
    if (record === undefined)
      throw permissionDenied('agent is not attested', Reason.AGENT_NOT_ATTESTED);
    if (record.isBanned) throw permissionDenied('agent is banned', Reason.AGENT_BANNED);
    return record;
  }

  /** Takes an attested node in; what was known of it before is replaced. */
  async admit(tx: Transaction, node: Attestation): Promise<void> {
    const { clock, audit, changes } = this.#options;
    const id = node.id.toString();
    await tx.run(
      `insert into agents (id, attestation_type, serial, not_after_ms, can_reattest, selectors,
         attested_at_ms, current_since_ms)
       values (?, ?, ?, ?, ?, ?, ?, ?)
       on conflict (id) do update set attestation_type = excluded.attestation_type,
         serial = excluded.serial, not_after_ms = excluded.not_after_ms, new_serial = null,
         new_not_after_ms = null, can_reattest = excluded.can_reattest,
         selectors = excluded.selectors, attested_at_ms = excluded.attested_at_ms,
         current_since_ms = excluded.current_since_ms`,
      id,
      node.type,
      node.serial,
      node.notAfter.getTime(),
      node.canReattest ? 1 : 0,
      selectorsToJson(node.selectors),
      clock.now().getTime(),
      clock.now().getTime(),
    );
    await audit.append(tx, {
      type: 'agent.attested',
      outcome: Outcome.SUCCESS,
      actor: { kind: 'agent', spiffeId: id, requestId: node.requestId },
      agentId: id,
      svidSerial: node.serial,
      attributes: { node_attestor: node.type },
    });
    await changes.record(tx, { kind: 'agent', id });
  }

  /** Keeps a renewed SVID beside the current one, until it is used. */
  async renew(tx: Transaction, id: string, serial: string, notAfter: Date): Promise<void> {
    await tx.run(
      'update agents set new_serial = ?, new_not_after_ms = ? where id = ? and banned = 0',
      serial,
      notAfter.getTime(),
      id,
    );
  }

  /** @param version untrusted; empty it says nothing */
  async setVersion(id: string, version: string): Promise<void> {
    const { store } = this.#options;
    if (version === '') return;
    if (version.length > MAXIMUM_VERSION)
      throw new Fault('INVALID_ARGUMENT', `agent_version is longer than ${MAXIMUM_VERSION}`);
    const known = await findAgent(store, id);
    if (known === undefined || known.version === version) return;
    await store.transaction((tx) =>
      tx.run('update agents set version = ? where id = ?', version, id),
    );
  }

  /** Shuts a node out until it is evicted, and ends the sessions it vouches for. @throws Fault NOT_FOUND */
  ban(id: string, actor: Actor, reason = ''): Promise<void> {
    return this.#options.store.transaction(async (tx) => {
      await this.#require(tx, id);
      await tx.run(
        `update agents set banned = 1, serial = '', new_serial = null, new_not_after_ms = null
         where id = ?`,
        id,
      );
      await this.#shutOut(tx, id, actor, { act: 'ban', said: 'was banned', reason });
    });
  }

  /** Forgets a node, which may attest anew, and ends the sessions it vouches for. @throws Fault NOT_FOUND */
  evict(id: string, actor: Actor): Promise<void> {
    const { store, entries } = this.#options;
    return store.transaction(async (tx) => {
      await this.#require(tx, id);
      await tx.run('delete from agents where id = ?', id);
      await entries.deleteOwnAliases(tx, id, { actor });
      await this.#shutOut(tx, id, actor, { act: 'evict', said: 'was evicted' });
    });
  }

  /**
   * Forgets agents that ended that long ago. Nothing that they vouched for still lives, so that no session
   * ends by it.
   * @returns how many: as many as `most` if there may be more
   */
  prune(periods: PruningPeriods, most: number): Promise<number> {
    const { store, clock, audit, entries, changes } = this.#options;
    return store.transaction(async (tx) => {
      const now = clock.now();
      const ids = await listGoneAgents(tx, goneBefore(periods, now), { now, limit: most });
      for (const id of ids) {
        await tx.run('delete from agents where id = ?', id);
        await entries.deleteOwnAliases(tx, id, { actor: SERVER_ACTOR });
        await audit.append(tx, {
          ...{ type: 'agent.pruned', outcome: Outcome.SUCCESS, actor: SERVER_ACTOR },
          ...{ agentId: id, reason: 'its SVID ended long ago' },
        });
        await changes.record(tx, { kind: 'agent', id });
      }
      return ids.length;
    });
  }

  async #shutOut(
    tx: Transaction,
    id: string,
    actor: Actor,
    { act, said, reason = '' }: ShutOut,
  ): Promise<void> {
    const { audit, revocations, changes } = this.#options;
    await revocations.revoke(tx, {
      subject: { kind: 'agent_id', value: id },
      cause: `agent.${act}`,
      reason: `the agent of this identity ${said}`,
    });
    await audit.append(tx, {
      type: act === 'ban' ? 'agent.banned' : 'agent.evicted',
      outcome: Outcome.SUCCESS,
      actor,
      agentId: id,
      reason,
    });
    await changes.record(tx, { kind: 'agent', id });
  }

  async #require(tx: Transaction, id: string): Promise<void> {
    if ((await findAgent(tx, id)) === undefined) throw new Fault('NOT_FOUND', 'agent not found');
  }

  async #activate(record: AgentRecord, { serial }: AgentProof): Promise<AgentRecord> {
    const currentSince = this.#options.clock.now();
    await this.#options.store.transaction((tx) =>
      tx.run(
        `update agents set serial = new_serial, not_after_ms = new_not_after_ms,
           new_serial = null, new_not_after_ms = null, current_since_ms = ?
         where id = ? and new_serial = ?`,
        currentSince.getTime(),
        record.id,
        serial,
      ),
    );
    return { ...record, serial, currentSince, newSerial: undefined };
  }

  async #banClone(record: AgentRecord, serial: string): Promise<void> {
    const { store, clock, onClone } = this.#options;
    if (onClone !== 'ban') return;
    if (await isSupersededForLong(store, record, serial, clock.now()))
      await this.ban(record.id, SERVER_ACTOR, 'an SVID that it has replaced was used again');
  }

  #alarm({ id, serial, address }: AgentProof): void {
    const { log, refusals } = this.#options;
    const agentId = id.toString();
    log.error(
      { alarm: true, agent_id: agentId, serial_number: serial, peer_addr: address },
      'superseded agent SVID used: its key may have been copied',
    );
    refusals.count(`superseded|${agentId}`, {
      type: 'agent.superseded_svid_used',
      outcome: Outcome.DENIED,
      actor: { kind: 'agent', spiffeId: agentId, address },
      agentId,
      svidSerial: serial,
      reason: 'the SVID is not the one on record: its key may have been copied',
    });
  }
}

function goneBefore(periods: PruningPeriods, now: Date): GoneBefore {
  const ago = (seconds: number) => new Date(now.getTime() - seconds * 1000);
  const { oneTimeSeconds, reattestableSeconds } = periods;
  const reattestable = reattestableSeconds === undefined ? undefined : ago(reattestableSeconds);
  return { oneTime: ago(oneTimeSeconds), reattestable };
}
