import type { BackendService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import { findBackend } from '../access/resources.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { SshAuthority } from '../authority/ssh-authority.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import { actorOf, type Caller } from './callers.ts';

export interface ProofServiceOptions {
  readonly store: Pick<Datastore, 'transaction'>;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly authority: Pick<SshAuthority, 'signMessage'>;
  readonly trustDomain: string;
}

const NAMESPACE = 'writ-proof';
const MAXIMUM_REPORT = 1024 * 1024;

/** Signs what an operator found in a backend: who said it, and when. */
export function proofService({
  store,
  clock,
  audit,
  authority,
  trustDomain,
}: ProofServiceOptions): Pick<Implementation<typeof BackendService, Caller>, 'signProof'> {
  return {
    async signProof({ backend, report, leaks }, { caller }) {
      if (report.length > MAXIMUM_REPORT)
        throw new Fault('INVALID_ARGUMENT', 'report: at most 1 MiB');
      const statement = JSON.stringify({
        ...{ format: 'writ-proof', trust_domain: trustDomain, backend },
        ...{ signed_at: clock.now().toISOString(), leaks, report: parsed(report) },
      });
      const signature = await authority.signMessage(NAMESPACE, Buffer.from(statement));
      await store.transaction(async (tx) => {
        if ((await findBackend(tx, backend)) === undefined)
          throw new Fault('NOT_FOUND', 'no backend of that name');
        await audit.append(tx, {
          type: 'backend.proof_signed',
          outcome: leaks === 0 ? Outcome.SUCCESS : Outcome.FAILURE,
          actor: actorOf(caller),
          backend,
          attributes: { leaks: String(leaks) },
        });
      });
      return { statement, signature };
    },
  };
}

function parsed(report: string): unknown {
  try {
    return JSON.parse(report);
  } catch (cause) {
    throw new Fault('INVALID_ARGUMENT', 'report: send JSON', { cause });
  }
}
