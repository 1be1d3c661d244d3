import type { AuditService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Caller } from './callers.ts';

const BATCH = 500;

/** The audit log, for operators. */
export function auditService({
  audit,
}: {
  readonly audit: AuditLog;
}): Implementation<typeof AuditService, Caller> {
  return {
    async *tailEvents({ afterSeq, last, follow }, { signal }) {
      const { head } = audit;
      const before = head.value - BigInt(last);
      let seen = last === 0 ? afterSeq : before > 0n ? before : 0n;
      for await (const newest of head.values(signal)) {
        while (seen < newest && !signal.aborted) {
          const events = await audit.read({ afterSeq: seen, limit: BATCH });
          seen += BigInt(events.length);
          yield* events.map((event) => ({ event }));
        }
        if (!follow) return;
      }
    },
  };
}
