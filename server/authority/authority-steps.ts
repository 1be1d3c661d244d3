/** The steps in an authority's life, each in a transaction with its event. */
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Actor } from '../access/actor.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Transaction } from '../plugins/datastore/datastore.ts';
import {
  type AuthorityInit,
  type AuthorityKind,
  type AuthorityRow,
  type AuthorityState,
  deleteAuthority,
  insertAuthority,
  setAuthorityState,
  taintAuthority,
} from './authority-rows.ts';

/** A transaction, what it has found, and who acts in it. */
export interface StepContext {
  readonly tx: Transaction;
  readonly audit: AuditLog;
  readonly now: Date;
  readonly actor: Actor;
  /** Of all kinds. */
  readonly rows: readonly AuthorityRow[];
}

type StepEvent = 'created' | 'activated' | 'tainted' | 'revoked' | 'expired' | 'lost' | 'replaced';

/** Takes up an authority whose key is kept. */
export async function addAuthority(
  step: StepContext,
  made: AuthorityInit,
  state: AuthorityState,
): Promise<void> {
  await insertAuthority(step.tx, made, state);
  await tell(step, 'created', made, {
    state,
    not_after: made.notAfter.toISOString(),
    ...(made.upstreamId === '' ? {} : { upstream: made.upstreamId }),
  });
}

/** Drops the prepared authority of a kind, if there is one: it has signed nothing. */
export async function dropPrepared(step: StepContext, kind: AuthorityKind): Promise<void> {
  for (const row of step.rows) {
    if (row.kind !== kind || row.state !== 'prepared') continue;
    await deleteAuthority(step.tx, row.id);
    await tell(step, 'replaced', row);
  }
}

/** Lets the prepared authority sign. @throws Fault INVALID_ARGUMENT if it is not the prepared one */
export async function activateAuthority(
  step: StepContext,
  asked: { readonly kind: AuthorityKind; readonly id: string },
): Promise<void> {
  const row = wanted(step, asked);
  if (row.state !== 'prepared')
    throw invalid(`only a prepared authority can be activated: this one is ${row.state}`);
  if (row.notAfter <= step.now) throw invalid('the prepared authority has ended');
  const replaced = await retireActive(step, asked.kind);
  await setAuthorityState(step.tx, row.id, 'active');
  await tell(step, 'activated', row, { replaces: replaced.map(({ id }) => id).join(' ') });
}

/** Makes the active authority of a kind an old one; there is at most one. */
export async function retireActive(
  step: StepContext,
  kind: AuthorityKind,
): Promise<readonly AuthorityRow[]> {
  const active = step.rows.filter((row) => row.kind === kind && row.state === 'active');
  for (const { id } of active) await setAuthorityState(step.tx, id, 'old');
  return active;
}

/**
 * Notes that the key of the active authority is gone. What it signed for SSH users and gateways lives for
 * minutes, so that it is trusted no more; targets are enrolled for months.
 */
export async function retireLost(step: StepContext, row: AuthorityRow): Promise<void> {
  await setAuthorityState(step.tx, row.id, 'old');
  if (row.kind === 'ssh-user' || row.kind === 'ssh-gateway')
    await taintAuthority(step.tx, row.id, step.now);
  await tell(step, 'lost', row);
}

/**
 * Has everything that an old authority signed made anew.
 * @throws Fault INVALID_ARGUMENT if it is not an old one, FAILED_PRECONDITION if it is tainted already
 */
export async function taintOld(
  step: StepContext,
  asked: { readonly kind: AuthorityKind; readonly id: string },
): Promise<void> {
  const row = wanted(step, asked);
  requireOld(row, 'tainted');
  if (row.tainted) throw new Fault('FAILED_PRECONDITION', 'the authority is tainted already');
  await taintAuthority(step.tx, row.id, step.now);
  await tell(step, 'tainted', row);
}

/**
 * Drops an old authority, and with it all that it signed.
 * @param mayRevoke asked for a tainted one of X.509: throws if somebody would be locked out
 * @throws Fault INVALID_ARGUMENT if it is not an old one, FAILED_PRECONDITION if X.509 or JWT is not
 *   tainted
 */
export async function revokeOld(
  step: StepContext,
  asked: { readonly kind: AuthorityKind; readonly id: string },
  mayRevoke: (row: AuthorityRow) => Promise<void>,
): Promise<void> {
  const row = wanted(step, asked);
  requireOld(row, 'revoked');
  const isBundled = row.kind === 'x509' || row.kind === 'jwt';
  if (isBundled && !row.tainted)
    throw new Fault('FAILED_PRECONDITION', 'an authority has to be tainted before it is revoked');
  if (row.kind === 'x509') await mayRevoke(row);
  await deleteAuthority(step.tx, row.id);
  await tell(step, 'revoked', row);
}

/** Forgets an authority that has ended. */
export async function dropEnded(step: StepContext, row: AuthorityRow): Promise<void> {
  await deleteAuthority(step.tx, row.id);
  await tell(step, 'expired', row);
}

function wanted(
  { rows }: StepContext,
  { kind, id }: { readonly kind: AuthorityKind; readonly id: string },
): AuthorityRow {
  if (id === '') throw invalid('no authority ID provided');
  const row = rows.find((one) => one.kind === kind && one.id === id);
  if (row === undefined) throw invalid(`there is no ${kind} authority with this ID`);
  return row;
}

function requireOld({ state }: AuthorityRow, verb: string): void {
  if (state !== 'old') throw invalid(`only an old authority can be ${verb}: this one is ${state}`);
}

async function tell(
  { audit, tx, actor }: StepContext,
  event: StepEvent,
  { kind, id }: Pick<AuthorityRow, 'kind' | 'id'>,
  attributes: Readonly<Record<string, string>> = {},
): Promise<void> {
  await audit.append(tx, {
    type: `authority.${event}`,
    outcome: Outcome.SUCCESS,
    actor,
    attributes: { kind, authority: id, ...attributes },
  });
}

function invalid(message: string): Fault {
  return new Fault('INVALID_ARGUMENT', message);
}
