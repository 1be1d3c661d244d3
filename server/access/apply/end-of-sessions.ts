import { timestampMs } from '@bufbuild/protobuf/wkt';
import type {
  Backend,
  PostgresBackend,
  Resource,
  SshBackend,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { ResourceKind } from '../resources.ts';
import type { RevocationInit } from '../revocations.ts';
import { narrows } from './narrows.ts';
import { narrowsSettings } from './narrows-settings.ts';

/** A resource before and after a change; undefined where it is not there. */
export interface Altered {
  readonly kind: ResourceKind;
  readonly name: string;
  readonly before: Resource | undefined;
  readonly after: Resource | undefined;
}

/** The revocation that follows from a change; undefined if live sessions may go on. */
export function endOfSessions(altered: Altered): RevocationInit | undefined {
  const { kind, name, before, after } = altered;
  if (kind === 'Backend') return endOfBackend(altered);
  if (before?.body.case !== 'grant') return undefined;
  const subject = { kind: 'grant', value: name } as const;
  if (after?.body.case !== 'grant') {
    return { subject, cause: 'grant.delete', reason: `grant ${name} was deleted` };
  }
  if (!narrows(before.body.value, after.body.value)) return undefined;
  return { subject, cause: 'grant.update', reason: `grant ${name} was narrowed` };
}

function endOfBackend({ name, before, after }: Altered): RevocationInit | undefined {
  const subject = { kind: 'backend', value: name } as const;
  if (after?.body.case !== 'backend') {
    return { subject, cause: 'backend.delete', reason: `backend ${name} was deleted` };
  }
  if (before?.body.case !== 'backend') return undefined;
  if (!isElsewhere(before.body.value, after.body.value)) return undefined;
  return { subject, cause: 'backend.update', reason: `backend ${name} was changed` };
}

/** Whether a session may be at something, or have something, that the backend is or gives no more. */
function isElsewhere({ type: before }: Backend, { type: after }: Backend): boolean {
  if (before.case !== after.case) return true;
  if (before.case === 'postgres' && after.case === 'postgres') {
    return (
      before.value.enforce !== after.value.enforce ||
      exceptionMs(after.value) < exceptionMs(before.value) ||
      narrowsSettings(before.value, after.value)
    );
  }
  if (before.case !== 'ssh' || after.case !== 'ssh') return false;
  return (
    before.value.host !== after.value.host ||
    before.value.port !== after.value.port ||
    losesHostKey(before.value, after.value) ||
    losesLogin(before.value, after.value)
  );
}

/** Sessions were told that they end with it. */
function exceptionMs({ exception }: PostgresBackend): number {
  const expiresAt = exception?.expiresAt;
  return expiresAt === undefined ? Number.POSITIVE_INFINITY : timestampMs(expiresAt);
}

/** No keys at all means host certificates, which is another proof and not one more. */
function losesHostKey({ hostKeys: before }: SshBackend, { hostKeys: after }: SshBackend): boolean {
  const isKept = (key: Uint8Array) => after.some((one) => Buffer.compare(one, key) === 0);
  return (before.length === 0) !== (after.length === 0) || !before.every(isKept);
}

function losesLogin({ logins: before }: SshBackend, { logins: after }: SshBackend): boolean {
  return Object.entries(before).some(([login, account]) => after[login] !== account);
}
