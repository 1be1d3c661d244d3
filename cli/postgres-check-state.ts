/** Whether the database still is as the last setup made it, and what else its state tells. */
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { type EnforceException, Layout } from '../proto/gen/writ/resource/v1/resource_pb.ts';
import type { CheckSubject } from './postgres-check-subject.ts';
import type { Finding } from './postgres-finding.ts';
import { knownLeaks, knownTakeovers } from './postgres-known-leaks.ts';

export async function checkVersion({ client, database }: CheckSubject): Promise<Finding[]> {
  const { rows } = await client.query<{ version: number; database: string }>(
    "select current_setting('server_version_num')::int as version, current_database()::text as database",
  );
  const there = rows[0];
  const other: Finding[] =
    there === undefined || there.database === database
      ? []
      : [
          {
            severity: 'critical',
            check: 'database',
            subject: there.database,
            problem: `is not the database of the backend, which is ${database}`,
          },
        ];
  const version = there?.version ?? 0;
  return [...other, ...knownLeaks(version), ...knownTakeovers(version)];
}

const SETUP = `
select to_regclass('writ.grant_group') is not null as there,
  to_regprocedure('writ.drift()') is not null as drift`;

export async function checkSetup(subject: CheckSubject): Promise<Finding[]> {
  const { client, grants, name, exception } = subject;
  if (exception !== undefined) return [gatewayAlone(name, exception)];
  const [state] = (await client.query<{ there: boolean; drift: boolean }>(SETUP)).rows;
  if (state?.there !== true) {
    const problem = 'has not been run: nothing is enforced by this database';
    return [{ severity: 'critical', check: 'setup', subject: 'writ backend setup', problem }];
  }
  const groups = await client.query<{ name: string }>('select name::text from writ.grant_group');
  const made = new Set(groups.rows.map((row) => row.name));
  const outdated = grants
    .filter(({ groupRole }) => !made.has(groupRole))
    .map(
      (grant): Finding => ({
        severity: 'warning',
        check: 'setup',
        subject: `grant ${grant.name}`,
        problem: `its rights as they are now are not in the database: run writ backend setup ${name}`,
      }),
    );
  const declared = new Set(grants.map(({ groupRole }) => groupRole));
  const left = [...made]
    .filter((group) => !declared.has(group))
    .map(
      (group): Finding => ({
        severity: 'warning',
        check: 'setup',
        subject: group,
        problem: `stands for a grant that is gone or has changed: run writ backend setup ${name}`,
      }),
    );
  return [...outdated, ...left, ...(state.drift ? await drift(subject) : [])];
}

/** No role of the database is between a session and a classified column. */
function gatewayAlone(name: string, { owner, reason, expiresAt }: EnforceException): Finding {
  const end = expiresAt === undefined ? '' : ` until ${timestampDate(expiresAt).toISOString()}`;
  return {
    severity: 'critical',
    check: 'enforce-gateway',
    subject: name,
    problem: `EXCEPTION of ${owner}${end} (${reason}): the gateway alone masks, as best effort`,
  };
}

/** A column that is new is hidden: no leak, but somebody misses it. */
async function drift({ client }: CheckSubject): Promise<Finding[]> {
  const { rows } = await client.query<{ kind: string; what: string }>(
    'select kind, what from writ.drift() order by 1, 2',
  );
  return rows.map(({ kind, what }): Finding => {
    if (kind === 'new-column') {
      const problem = 'is new and hidden until it is classified';
      return { severity: 'note', check: 'drift', subject: what, problem };
    }
    if (kind === 'changed-column') {
      const problem = 'has another type than at the last setup';
      return { severity: 'warning', check: 'drift', subject: what, problem };
    }
    const problem =
      kind === 'added'
        ? 'was not made by the last setup'
        : 'was made by the last setup and is missing';
    return {
      severity: kind === 'added' ? 'critical' : 'warning',
      check: 'drift',
      subject: what,
      problem,
    };
  });
}

const LOGINS = `
select r.rolname, r.rolname !~ '^writ_[0-9a-f]{16}$' as standing,
  coalesce(r.rolvaliduntil < clock_timestamp(), false) or r.rolvaliduntil is null
    or r.rolvaliduntil > clock_timestamp() + interval '1 minute' as outside
from pg_roles r where r.rolcanlogin and (r.rolname = 'writ_admin' or r.rolname ~ '^writ_([go]_)?[0-9a-f]{16}$')`;

interface LoginRow {
  readonly rolname: string;
  readonly standing: boolean;
  readonly outside: boolean;
}

/** Roles of Writ that somebody could log in as outside an opening, which lasts a minute (threats P5). */
export async function checkOurRoles({ client }: CheckSubject): Promise<Finding[]> {
  const { rows } = await client.query<LoginRow>(LOGINS);
  return rows.flatMap(({ rolname, standing, outside }): Finding[] => {
    if (!standing && !outside) return [];
    return [
      {
        severity: 'critical',
        check: 'role-can-log-in',
        subject: rolname,
        problem: 'can log in outside the opening of a session',
        repair: {
          sql: [`ALTER ROLE ${rolname} NOLOGIN PASSWORD NULL;`],
          undo: [],
          loses: 'nobody: no session needs to log in again',
        },
      },
    ];
  });
}

const ROW_SECURITY = `
select c.oid::regclass::text as subject, case
  when not c.relrowsecurity then 'has row policies that are not enabled'
  when not c.relforcerowsecurity then 'has row policies that its owner passes by'
  else null end as problem,
  array(select p.polname::text from pg_policy p where p.polrelid = c.oid and
    (coalesce(pg_get_expr(p.polqual, p.polrelid), '') || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '')) ~* 'current_user|session_user|current_role') as by_user,
  array(select p.polname::text from pg_policy p where p.polrelid = c.oid and
    (coalesce(pg_get_expr(p.polqual, p.polrelid), '') || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '')) ~* 'current_setting') as by_setting
from pg_class c where exists (select from pg_policy p where p.polrelid = c.oid) order by 1`;

interface PolicyRow {
  readonly subject: string;
  readonly problem: string | null;
  readonly by_user: readonly string[];
  readonly by_setting: readonly string[];
}

/** What row policies look at means something else in a session of Writ (threats P8). */
export async function checkRowSecurity({ client }: CheckSubject): Promise<Finding[]> {
  const { rows } = await client.query<PolicyRow>(ROW_SECURITY);
  return rows.flatMap(({ subject, problem, by_user, by_setting }): Finding[] => {
    const say = (severity: Finding['severity'], text: string): Finding => ({
      severity,
      check: 'row-security',
      subject,
      problem: text,
    });
    return [
      ...(problem === null ? [] : [say('note', problem)]),
      ...by_user.map((policy) =>
        say(
          'warning',
          `policy ${policy} looks at the database user, which in a session is a role of its own: use writ.identity()`,
        ),
      ),
      ...by_setting.map((policy) =>
        say(
          'warning',
          `policy ${policy} trusts a setting: list it under settings of each grant, so that no client sets it`,
        ),
      ),
    ];
  });
}

const CHOSEN_ROWS = `
select distinct format('%s', p.polrelid::regclass) as subject, p.polname::text as policy, s.name as setting
from pg_policy p, unnest($1::text[]) as s (name)
where strpos(lower(coalesce(pg_get_expr(p.polqual, p.polrelid), '') || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '')),
  quote_literal(s.name)) > 0
order by 1, 2, 3`;

/** A setting that every session may change decides no rows (threats P8, P11). */
export async function checkAllowedSettings(subject: CheckSubject): Promise<Finding[]> {
  const { client, name, settingsAllowed } = subject;
  const { rows } = await client.query<{ subject: string; policy: string; setting: string }>(
    CHOSEN_ROWS,
    [settingsAllowed],
  );
  return rows.map(({ subject: table, policy, setting }) => ({
    severity: 'critical',
    check: 'allowed-setting',
    subject: table,
    problem: `policy ${policy} trusts ${setting}, which sessions may change: take it out of settings_allowed of backend ${name}`,
  }));
}

/** Statements that qualify a masked table's name need the layout in-place (threats P3). */
export async function checkQualifiedNames(subject: CheckSubject): Promise<Finding[]> {
  const { client, classified, layout } = subject;
  if (layout === Layout.IN_PLACE) return [];
  const found = await client.query<{ at: string }>(
    `select quote_ident(n.nspname) as at from pg_extension e join pg_namespace n on n.oid = e.extnamespace
      where e.extname = 'pg_stat_statements'
        and 'pg_stat_statements' = any (string_to_array(replace(current_setting('shared_preload_libraries'), ' ', ''), ','))`,
  );
  const schema = found.rows[0]?.at;
  if (schema === undefined) {
    const problem = 'is not there: whether programs write schema.table cannot be told';
    return [{ severity: 'note', check: 'qualified-names', subject: 'pg_stat_statements', problem }];
  }
  const tables = [...new Set(classified.map(({ schema, table }) => `${schema}.${table}`))];
  const { rows } = await client.query<{ table: string; calls: string }>(
    `select t as table, sum(s.calls)::text as calls from unnest($1::text[]) t join ${schema}.pg_stat_statements s
      on strpos(replace(lower(s.query), '"', ''), lower(t)) > 0 where s.dbid = (select oid from pg_database where datname = current_database())
      group by 1 order by 1`,
    [tables],
  );
  return rows.map(
    ({ table, calls }): Finding => ({
      severity: 'warning',
      check: 'qualified-names',
      subject: table,
      problem: `${calls} statements wrote its schema: they are refused in the layout front, use in-place`,
    }),
  );
}
