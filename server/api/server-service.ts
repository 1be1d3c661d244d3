import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { ServerService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import { backedUpKeys, writeBackup } from '../backup/write-backup.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import { SCHEMA_VERSION } from '../plugins/datastore/migrations.ts';
import type { KeyManager } from '../plugins/key-manager/key-manager.ts';
import type { RestoredLock } from '../restored-lock.ts';
import { actorOf, type Caller } from './callers.ts';

export interface ServerServiceOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly keys: KeyManager;
  readonly trustDomain: TrustDomain;
  readonly lock: RestoredLock;
}

/** Backups of the server, and its way back into service after a restore. */
export function serverService(options: ServerServiceOptions) {
  const { store, clock, audit, keys, trustDomain, lock } = options;
  return {
    async *backup(_request, { caller }) {
      await store.transaction((tx) =>
        audit.append(tx, {
          ...{ type: 'server.backed_up', outcome: Outcome.SUCCESS, actor: actorOf(caller) },
        }),
      );
      await using snapshot = await store.snapshot();
      const head = {
        ...{ format: 'writ-server-backup' as const, schema: SCHEMA_VERSION },
        ...{ trust_domain: trustDomain, taken_at: clock.now().toISOString() },
      };
      for await (const chunk of writeBackup(snapshot, head, backedUpKeys(keys))) yield { chunk };
    },

    async unlock({ reason }, { caller }) {
      await lock.unlock(actorOf(caller), reason);
      return {};
    },
  } satisfies Partial<Implementation<typeof ServerService, Caller>>;
}
