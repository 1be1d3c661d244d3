import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { LockService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { LockTarget } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import { type LockInit, type Locks, listLocks } from '../access/locks.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { memberIdFromText } from '../registry/spiffe-id-message.ts';
import { actorOf, type Caller } from './callers.ts';

export interface LockServiceOptions {
  readonly reader: Reader;
  readonly locks: Locks;
  readonly trustDomain: TrustDomain;
}

const REASON = /^[^\p{Cc}\p{Zl}\p{Zp}]{1,200}$/u;

/** Locks, for operators. */
export function lockService({
  reader,
  locks,
  trustDomain,
}: LockServiceOptions): Implementation<typeof LockService, Caller> {
  return {
    async createLock({ target, reason, ttlSeconds }, { caller }) {
      const checked = requireTarget(target, trustDomain);
      if (!REASON.test(reason)) {
        throw new Fault('INVALID_ARGUMENT', 'reason: write one line of 1 to 200 characters');
      }
      const actor = actorOf(caller);
      const createdBy = `uid:${actor.uid ?? 'unknown'}`;
      return {
        lock: await locks.create({ target: checked, reason, ttlSeconds, createdBy }, actor),
      };
    },

    async listLocks() {
      return { locks: await listLocks(reader) };
    },

    async deleteLock({ name }, { caller }) {
      await locks.delete(name, actorOf(caller));
      return {};
    },
  };
}

function requireTarget(
  target: LockTarget | undefined,
  trustDomain: TrustDomain,
): LockInit['target'] {
  const chosen = target?.target;
  if (chosen?.case === undefined || chosen.value === '') {
    throw new Fault('INVALID_ARGUMENT', 'target: name an identity, agent, grant or backend');
  }
  if (chosen.case === 'grant' || chosen.case === 'backend') return chosen;
  memberIdFromText(chosen.value, trustDomain, 'target');
  return chosen;
}
