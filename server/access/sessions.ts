import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Session, SessionSchema } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { CloseSessionRequest } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { AuditLog, EventInit } from '../audit/audit-log.ts';
import type { Datastore, Reader, Row, Transaction } from '../plugins/datastore/datastore.ts';
import { integer, optionalText, text } from '../plugins/datastore/row.ts';
import { type Actor, SERVER_ACTOR } from './actor.ts';
import type { Revocations } from './revocations.ts';

/** What is written where a gateway fell silent; its own account may still come. */
export const GATEWAY_LOST = 'gateway lost';

const MAXIMUM_REASON = 256;
const HASH_BYTES = 32;

export interface SessionsOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly revocations: Revocations;
}

/** The sessions that were opened, and how they end. */
export class Sessions {
  readonly #options: SessionsOptions;

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  /** Newest first. */
  async list(filter: { openOnly: boolean; limit: number }): Promise<Session[]> {
    const where = filter.openOnly ? 'where closed_at_ms is null' : '';
    const rows = await this.#options.store.all(
      `select * from sessions ${where} order by opened_at_ms desc, id limit ?`,
      filter.limit,
    );
    return rows.map(sessionFromRow);
  }

  /** @throws Fault NOT_FOUND */
  async get(id: string): Promise<Session> {
    return sessionFromRow(await requireRow(this.#options.store, id));
  }

  /**
   * Writes down how a session ended, by its gateway's account; a second account changes nothing.
   * @param gateway SPIFFE ID of the caller, authenticated
   * @param requestId of the call, for its event
   * @throws Fault NOT_FOUND if that gateway has no such session
   */
  close(gateway: string, request: CloseSessionRequest, requestId?: string): Promise<void> {
    const actor = { kind: 'gateway', spiffeId: gateway, requestId };
    return this.#options.store.transaction(async (tx) => {
      const row = await requireRow(tx, request.sessionId);
      if (row.gateway_id !== gateway) throw new Fault('NOT_FOUND', 'no such session');
      if (hasEnded(row)) return;
      const reason = request.reason.slice(0, MAXIMUM_REASON).replaceAll(/\p{Cc}/gu, '?');
      const hash = request.recordingHash.subarray(0, HASH_BYTES);
      await tx.run(
        `update sessions set closed_at_ms = ?, close_reason = ?, bytes_up = ?, bytes_down = ?,
           rows = ?, statements = ?, recording_hash = ? where id = ?`,
        this.#options.clock.now().getTime(),
        reason,
        storable(request.bytesUp),
        storable(request.bytesDown),
        storable(request.rows),
        storable(request.statements),
        hash.length > 0 ? hash : null,
        request.sessionId,
      );
      await this.#options.audit.append(tx, {
        ...eventOf(row, 'session.closed', actor),
        reason,
        attributes: {
          bytes_up: request.bytesUp.toString(),
          bytes_down: request.bytesDown.toString(),
          rows: request.rows.toString(),
          statements: request.statements.toString(),
          recording_hash: Buffer.from(hash).toString('hex'),
        },
      });
    });
  }

  /** Closes an open session whose gateway no longer tells of it. */
  async closeLost(tx: Transaction, id: string): Promise<void> {
    const row = await requireRow(tx, id);
    if (row.closed_at_ms !== null) return;
    await tx.run(
      'update sessions set closed_at_ms = ?, close_reason = ? where id = ?',
      this.#options.clock.now().getTime(),
      GATEWAY_LOST,
      id,
    );
    const event = eventOf(row, 'session.closed', SERVER_ACTOR);
    await this.#options.audit.append(tx, { ...event, reason: GATEWAY_LOST });
  }

  /** Closes what a gateway opened before its process began and does not list: a crash left it open. */
  async closeFormer(
    tx: Transaction,
    gateway: string,
    former: { readonly openedBefore: Date; readonly listed: readonly string[] },
  ): Promise<void> {
    const rows = await tx.all(
      'select id from sessions where gateway_id = ? and closed_at_ms is null and opened_at_ms < ?',
      gateway,
      former.openedBefore.getTime(),
    );
    const listed = new Set(former.listed);
    for (const row of rows) {
      const id = text(row, 'id');
      if (!listed.has(id)) await this.closeLost(tx, id);
    }
  }

  /** Takes back `closeLost`: the gateway has come back and the session lived on (threats S6). */
  async reopenFound(tx: Transaction, gateway: string, id: string, now: number): Promise<void> {
    const row = await tx.get(
      'select * from sessions where id = ? and gateway_id = ? and close_reason = ?',
      id,
      gateway,
      GATEWAY_LOST,
    );
    if (row === undefined) return;
    await tx.run(
      'update sessions set closed_at_ms = null, close_reason = null, lease_ms = ? where id = ?',
      now,
      id,
    );
    const actor = { kind: 'gateway', spiffeId: gateway };
    await this.#options.audit.append(tx, eventOf(row, 'session.found', actor));
  }

  /**
   * Resolves once the end is committed; the gateways act within a second.
   * @throws Fault NOT_FOUND, FAILED_PRECONDITION if it has ended
   */
  kill(id: string, reason: string, actor: Actor): Promise<void> {
    const { store, audit, revocations } = this.#options;
    return store.transaction(async (tx) => {
      const row = await requireRow(tx, id);
      if (hasEnded(row)) {
        throw new Fault('FAILED_PRECONDITION', 'the session has ended already');
      }
      const subject = { kind: 'session_id', value: id } as const;
      await revocations.revoke(tx, { subject, cause: 'session.kill', reason });
      await audit.append(tx, { ...eventOf(row, 'session.killed', actor), reason });
    });
  }
}

/** One that was given up may live on where nobody hears of it. */
function hasEnded(row: Row): boolean {
  return row.closed_at_ms !== null && row.close_reason !== GATEWAY_LOST;
}

/** A count from the wire, cut to what a row gives back exactly. */
function storable(count: bigint): number {
  return Math.min(Number(count), Number.MAX_SAFE_INTEGER);
}

/** @throws Fault NOT_FOUND */
async function requireRow(reader: Reader, id: string): Promise<Row> {
  const row = await reader.get('select * from sessions where id = ?', id);
  if (row === undefined) throw new Fault('NOT_FOUND', 'no such session');
  return row;
}

/** An event about a session, with all that its row tells. */
function eventOf(row: Row, type: string, actor: Actor): EventInit {
  return {
    type,
    outcome: Outcome.SUCCESS,
    actor,
    sessionId: text(row, 'id'),
    grant: text(row, 'grant_name'),
    backend: text(row, 'backend'),
    spiffeId: text(row, 'spiffe_id'),
    svidSerial: text(row, 'svid_serial'),
    agentId: text(row, 'agent_id'),
    entryId: text(row, 'entry_id'),
  };
}

function sessionFromRow(row: Row): Session {
  const session = create(SessionSchema, {
    id: text(row, 'id'),
    spiffeId: text(row, 'spiffe_id'),
    svidSerial: text(row, 'svid_serial'),
    grant: text(row, 'grant_name'),
    backend: text(row, 'backend'),
    gateway: text(row, 'gateway_id'),
    clientAddress: text(row, 'client_address'),
    openedAt: timestampFromMs(integer(row, 'opened_at_ms')),
    expiresAt: timestampFromMs(integer(row, 'expires_at_ms')),
    closeReason: optionalText(row, 'close_reason') ?? '',
    bytesUp: BigInt(integer(row, 'bytes_up')),
    bytesDown: BigInt(integer(row, 'bytes_down')),
    rows: BigInt(integer(row, 'rows')),
    statements: BigInt(integer(row, 'statements')),
    owner: text(row, 'owner'),
    purpose: text(row, 'purpose'),
    reason: text(row, 'reason'),
    entryId: text(row, 'entry_id'),
    agentId: text(row, 'agent_id'),
  });
  if (row.closed_at_ms !== null) session.closedAt = timestampFromMs(integer(row, 'closed_at_ms'));
  return session;
}
