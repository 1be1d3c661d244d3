/**
 * The leaves that a lock holds back: nothing marks them, so that they are good again once it is lifted or
 * runs out.
 */
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { CRL_REASON } from '../../identity/x509/crl.ts';
import { isInForce, listLocks } from '../access/locks.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { text } from '../plugins/datastore/row.ts';
import { IS_LEAF, LEAF_COLUMNS, type RevokedLeaf } from './crl-revoked.ts';

const HELD = CRL_REASON.certificateHold;

/** The leaves that locks hold back now; at most `maximum`, those first that live longest. */
export async function listHeldLeaves(
  reader: Reader,
  now: Date,
  maximum: number,
): Promise<RevokedLeaf[]> {
  const held = new Map<string, RevokedLeaf>();
  for (const { kind, value, since } of await identityLocks(reader, now)) {
    for (const column of LEAF_COLUMNS.get(kind) ?? []) {
      const rows = await reader.all(
        `select serial, authority_id from ledger
         where ${column} = ? and ${IS_LEAF} and not_after_ms > ? and revoked_at_ms is null
         order by not_after_ms desc limit ?`,
        value,
        now.getTime(),
        maximum - held.size,
      );
      for (const row of rows) {
        const serial = text(row, 'serial');
        const authorityId = text(row, 'authority_id');
        held.set(serial, { serial, authorityId, revokedAt: since, reason: HELD });
      }
    }
  }
  return [...held.values()];
}

/** The locks in force that name an identity or an agent. */
async function identityLocks(reader: Reader, now: Date) {
  const locks = (await listLocks(reader)).filter((lock) => isInForce(lock, now));
  return locks.flatMap(({ target, createdAt }) => {
    const since = createdAt === undefined ? now : timestampDate(createdAt);
    switch (target?.target.case) {
      case 'spiffeId':
        return [{ kind: 'spiffe_id', value: target.target.value, since }];
      case 'agentId':
        return [{ kind: 'agent_id', value: target.target.value, since }];
      default:
        return [];
    }
  });
}
