import type { KeyObject } from 'node:crypto';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { SERVER_ACTOR } from '../access/actor.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Transaction } from '../plugins/datastore/datastore.ts';
import type { KeyManager } from '../plugins/key-manager/key-manager.ts';
import {
  type AuthorityKind,
  type AuthorityRow,
  createAuthority,
  listAuthorities,
  loadAuthorityKey,
} from './authority-rows.ts';

/** An authority that signs. */
export interface ActiveAuthority {
  readonly row: AuthorityRow;
  readonly privateKey: KeyObject;
}

export interface ActiveAuthorityOptions {
  readonly audit: AuditLog;
  readonly keys: KeyManager;
  readonly clock: Clock;
  readonly log: Logger;
  readonly trustDomain: TrustDomain;
}

/**
 * Makes an authority where there is none that can sign. What the old one signed stays valid: its row
 * stays.
 * @param lifetimeMs of a new one
 * @returns whether a new one had to be made
 */
export async function ensureActive(
  tx: Transaction,
  kind: AuthorityKind,
  { lifetimeMs, ...options }: ActiveAuthorityOptions & { readonly lifetimeMs: number },
): Promise<boolean> {
  const { clock, audit, keys, log, trustDomain } = options;
  const now = clock.now();
  const current = await findActive(await listAuthorities(tx), kind, keys);
  if (current !== undefined && current.row.notAfter > now) return false;
  const retired = await tx.run(
    `update authorities set state = 'old' where kind = ? and state = 'active'`,
    kind,
  );
  const notAfter = new Date(now.getTime() + lifetimeMs);
  const id = await createAuthority(tx, kind, { trustDomain, keys, now, notAfter });
  if (retired > 0)
    log.warn({ kind, authority: id }, 'authority replaced: its key is lost or it ended');
  await audit.append(tx, {
    type: 'authority.created',
    outcome: Outcome.SUCCESS,
    actor: SERVER_ACTOR,
    attributes: { kind, authority: id, replaces: String(retired) },
  });
  return true;
}

/** The authority that signs what is of its kind; undefined if there is none, or its key is lost. */
export async function findActive(
  rows: readonly AuthorityRow[],
  kind: AuthorityKind,
  keys: KeyManager,
): Promise<ActiveAuthority | undefined> {
  const row = rows.find((one) => one.kind === kind && one.state === 'active');
  const privateKey = row && (await loadAuthorityKey(row, keys));
  return row && privateKey && { row, privateKey };
}
