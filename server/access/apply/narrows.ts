import { timestampMs } from '@bufbuild/protobuf/wkt';
import type {
  Grant,
  PostgresRights,
  SshRights,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';

const RIGHTS = ['select', 'insert', 'update', 'delete', 'statements'] as const;

/** Whether a session that was opened under `before` may hold something that `after` does not give. */
export function narrows(before: Grant, after: Grant): boolean {
  return (
    before.identity !== after.identity ||
    before.backend !== after.backend ||
    endMs(after) < endMs(before) ||
    maximumSeconds(after) < maximumSeconds(before) ||
    rowLimit(after) < rowLimit(before) ||
    losesRights(before, after)
  );
}

function endMs({ expiresAt }: Grant): number {
  return expiresAt === undefined ? 0 : timestampMs(expiresAt);
}

function maximumSeconds({ session }: Grant): number {
  return Number(session?.maximum?.seconds ?? 0);
}

function rowLimit({ session }: Grant): number {
  const rows = Number(session?.rows ?? 0);
  return rows === 0 ? Number.POSITIVE_INFINITY : rows;
}

function losesRights({ rights: before }: Grant, { rights: after }: Grant): boolean {
  if (before.case === 'postgres' && after.case === 'postgres') {
    return RIGHTS.some((right) => isLost(before.value, after.value, right));
  }
  if (before.case === 'ssh' && after.case === 'ssh') return losesSsh(before.value, after.value);
  return true;
}

function losesSsh(before: SshRights, after: SshRights): boolean {
  const keepsCommands =
    after.exec || (!before.exec && before.commands.every((one) => after.commands.includes(one)));
  return (
    !keepsCommands ||
    (before.shell && !after.shell) ||
    (before.sftp && !after.sftp) ||
    before.logins.some((one) => !after.logins.includes(one))
  );
}

function isLost(
  before: PostgresRights,
  after: PostgresRights,
  right: (typeof RIGHTS)[number],
): boolean {
  return before[right].some((one) => !after[right].includes(one));
}
