import { timestampMs } from '@bufbuild/protobuf/wkt';
import type {
  Grant,
  PostgresRights,
  SessionLimits,
  SshRights,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';

/** As SessionLimits in resource.proto says. */
const DEFAULT_ERRORS = 20;
const DEFAULT_IDLE_SECONDS = 300;

const LISTS = [
  'select',
  'insert',
  'update',
  'delete',
  'statements',
  'writeMasked',
  'execute',
  'sequences',
] as const;

/** Whether a session that was opened under `before` may hold something that `after` does not give. */
export function narrows(before: Grant, after: Grant): boolean {
  return (
    before.identity !== after.identity ||
    before.backend !== after.backend ||
    endMs(after) < endMs(before) ||
    maximumSeconds(after) < maximumSeconds(before) ||
    hasLess(before.session, after.session) ||
    losesRights(before, after)
  );
}

function endMs({ expiresAt }: Grant): number {
  return expiresAt === undefined ? 0 : timestampMs(expiresAt);
}

function maximumSeconds({ session }: Grant): number {
  return Number(session?.maximum?.seconds ?? 0);
}

function hasLess(before: SessionLimits | undefined, after: SessionLimits | undefined): boolean {
  const later = limitsOf(after);
  return limitsOf(before).some((limit, index) => (later[index] ?? 0) < limit);
}

function limitsOf(session: SessionLimits | undefined): number[] {
  const day = session?.perDay;
  const counts = [session?.rows, session?.bytes, session?.statements];
  const daily = [day?.rows, day?.bytes, day?.statements, day?.duration?.seconds];
  const limits = [...counts, ...daily].map((limit) => Number(limit ?? 0));
  return [
    ...limits.map((limit) => (limit === 0 ? Number.POSITIVE_INFINITY : limit)),
    session?.errors || DEFAULT_ERRORS,
    Number(session?.idleInTransaction?.seconds ?? DEFAULT_IDLE_SECONDS),
  ];
}

function losesRights({ rights: before }: Grant, { rights: after }: Grant): boolean {
  if (before.case === 'postgres' && after.case === 'postgres') {
    return losesPostgres(before.value, after.value);
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

function losesPostgres(before: PostgresRights, after: PostgresRights): boolean {
  if (before.database !== after.database || (after.replica && !before.replica)) return true;
  const isLost = (one: readonly string[], other: readonly string[]) =>
    one.some((name) => !other.includes(name));
  return (
    LISTS.some((right) => !givesAny(right, after) && isLost(before[right], after[right])) ||
    isLost(refusals(after), refusals(before)) ||
    (before.recording?.rows !== true && after.recording?.rows === true) ||
    isLost(columnRights(before), columnRights(after)) ||
    isLost(ddlRights(before), ddlRights(after)) ||
    // A row policy may show more under any other value.
    settings(before) !== settings(after)
  );
}

function givesAny(right: string, { statements }: PostgresRights): boolean {
  return right === 'statements' && statements.includes('any');
}

function refusals({ rules }: PostgresRights): string[] {
  const { tables = [], functions = [], noCopy = false } = rules ?? {};
  const named = [...tables.map((name) => `table ${name}`), ...functions];
  return noCopy ? [...named, 'copy'] : named;
}

function columnRights({ columns }: PostgresRights): string[] {
  return columns.flatMap(({ table, select, insert, update }) =>
    Object.entries({ select, insert, update }).flatMap(([verb, names]) =>
      names.map((name) => JSON.stringify([table, verb, name])),
    ),
  );
}

function ddlRights({ ddlOwner }: PostgresRights): string[] {
  return (ddlOwner?.schemas ?? []).map((schema) => JSON.stringify([ddlOwner?.role, schema]));
}

function settings(rights: PostgresRights): string {
  return JSON.stringify(Object.entries(rights.settings).sort());
}
