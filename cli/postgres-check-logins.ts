/** Who reaches classified columns without coming through Writ (threats P1, P9). */
import pg from 'pg';
import { type CheckSubject, FAMILY, familyParameters } from './postgres-check-subject.ts';
import type { Finding, Repair } from './postgres-finding.ts';

const GATEWAY = `
select r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication, r.rolbypassrls, r.rolcanlogin,
  array(select g.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid
    where m.member = r.oid order by 1) as memberships,
  array(select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname <> 'information_schema' and (c.relowner = r.oid or exists (
      select from aclexplode(c.relacl) a where a.grantee = r.oid)) order by 1) as relations
from pg_roles r where r.rolname = $1`;

interface GatewayRow {
  readonly rolsuper: boolean;
  readonly rolcreaterole: boolean;
  readonly rolcreatedb: boolean;
  readonly rolreplication: boolean;
  readonly rolbypassrls: boolean;
  readonly rolcanlogin: boolean;
  readonly memberships: readonly string[];
  readonly relations: readonly string[];
}

const ATTRIBUTES = {
  rolsuper: 'SUPERUSER',
  rolcreaterole: 'CREATEROLE',
  rolcreatedb: 'CREATEDB',
  rolreplication: 'REPLICATION',
  rolbypassrls: 'BYPASSRLS',
} as const;

/** The second login of a gateway whose password is rotated, as `writ backend setup` made it. */
const TWIN = `select g.twin::text from writ.gateway_login g where g.name = $1`;

/** A gateway whose account can do more than open sessions is an exception (threats P1). */
export async function checkGatewayLogin(subject: CheckSubject): Promise<Finding[]> {
  const { client, login } = subject;
  const made = await client.query<{ there: boolean }>(
    `select to_regclass('writ.gateway_login') is not null as there`,
  );
  const twins =
    made.rows[0]?.there === true
      ? (await client.query<{ twin: string }>(TWIN, [login])).rows.map(({ twin }) => twin)
      : [];
  const findings: Finding[] = [];
  for (const one of [login, ...twins]) findings.push(...(await checkLogin(client, one)));
  return findings;
}

async function checkLogin(client: CheckSubject['client'], login: string): Promise<Finding[]> {
  const [row] = (await client.query<GatewayRow>(GATEWAY, [login])).rows;
  if (row === undefined) {
    const problem = 'the role of the gateway does not exist: run writ backend setup';
    return [{ severity: 'critical', check: 'gateway-login', subject: login, problem }];
  }
  const role = pg.escapeIdentifier(login);
  const attributes = Object.entries(ATTRIBUTES).flatMap(([key, name]) =>
    row[key as keyof typeof ATTRIBUTES] ? [name] : [],
  );
  const excess = [
    ...attributes.map((name) => ({
      what: `has ${name}`,
      sql: `ALTER ROLE ${role} NO${name};`,
      undo: `ALTER ROLE ${role} ${name};`,
    })),
    ...row.memberships.map((group) => ({
      what: `is a member of ${group}`,
      sql: `REVOKE ${pg.escapeIdentifier(group)} FROM ${role};`,
      undo: `GRANT ${pg.escapeIdentifier(group)} TO ${role};`,
    })),
  ];
  const findings = excess.map(
    ({ what, sql, undo }): Finding => ({
      severity: 'critical',
      check: 'gateway-login',
      subject: login,
      problem: `EXCEPTION: the gateway's account ${what}; who takes the gateway takes that too`,
      repair: { sql: [sql], undo: [undo], loses: `${login}, which needs none of it` },
    }),
  );
  const held = row.relations.map(
    (relation): Finding => ({
      severity: 'critical',
      check: 'gateway-login',
      subject: login,
      problem: `EXCEPTION: the gateway's account has rights of its own on ${relation}`,
    }),
  );
  return [...findings, ...held];
}

const READERS = `
with ${FAMILY}, reach as (
  select r.oid as role, r.rolname, r.rolsuper, c.oid as relation, f.name,
    pg_has_role(r.oid, c.relowner, 'USAGE') as owns
  from pg_roles r, family f join pg_class c on c.oid = f.relation
  where r.rolcanlogin and r.rolname <> $4 and r.rolname !~ '^writ_[0-9a-f]{16}$'
    and has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
    and has_column_privilege(r.oid, f.relation, f.attribute, 'SELECT')
)
select rolname, rolsuper, bool_or(owns) as owns,
  pg_has_role(role, 'pg_read_all_data', 'USAGE') as reads_all,
  array_agg(distinct format('%s.%I', relation::regclass, name)) as columns
from reach group by role, rolname, rolsuper order by rolsuper, rolname`;

interface ReaderRow {
  readonly rolname: string;
  readonly rolsuper: boolean;
  readonly owns: boolean;
  readonly reads_all: boolean;
  readonly columns: readonly string[];
}

/** What was granted: a right of `grantee` on the whole table, or on one column. */
const RIGHTS = `
with ${FAMILY}, rights as (
  select c.oid as relation, null::name as name, a.grantee from pg_class c, aclexplode(c.relacl) a
    where c.oid in (select relation from family) and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
  union select f.relation, f.name, a.grantee from family f join pg_attribute t on t.attrelid = f.relation
    and t.attnum = f.attribute, aclexplode(t.attacl) a where a.privilege_type = 'SELECT'
)
select r.rolname, rights.relation::regclass::text as relation, rights.name,
  case when rights.grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(rights.grantee)) end as grantee
from rights, pg_roles r where r.rolcanlogin and r.rolname <> $4
  and (rights.grantee = 0 or pg_has_role(r.oid, rights.grantee, 'USAGE'))
  and (rights.grantee = 0 or pg_get_userbyid(rights.grantee) !~ '^writ_o_[0-9a-f]{16}$')
order by 1, 2, 3, 4`;

interface RightRow {
  readonly rolname: string;
  readonly relation: string;
  readonly name: string | null;
  readonly grantee: string;
}

const ACTIVITY = `
select a.usename::text as login, count(*)::int as now, max(a.backend_start) as since,
  array_agg(distinct coalesce(host(a.client_addr), 'local')) as addresses,
  bool_or(s.ssl is not true and a.client_addr is not null) as plain
from pg_stat_activity a left join pg_stat_ssl s on s.pid = a.pid
where a.backend_type = 'client backend' and a.usename is not null and a.pid <> pg_backend_pid()
group by 1`;

interface ActivityRow {
  readonly login: string;
  readonly now: number;
  readonly since: Date;
  readonly addresses: readonly string[];
  readonly plain: boolean;
}

/** Every other login that reads a classified column, with what tells of its last use. */
export async function checkOtherLogins(subject: CheckSubject): Promise<Finding[]> {
  const { client, login } = subject;
  const parameters = [...familyParameters(subject), login];
  const readers = (await client.query<ReaderRow>(READERS, parameters)).rows;
  const rights = (await client.query<RightRow>(RIGHTS, parameters)).rows;
  const activity = (await client.query<ActivityRow>(ACTIVITY)).rows;
  return readers.map((reader): Finding => {
    const mine = rights.filter(({ rolname }) => rolname === reader.rolname);
    const use = lastUse(activity.find((one) => one.login === reader.rolname));
    const found = {
      severity: reader.rolsuper ? 'warning' : 'critical',
      check: 'other-login',
      subject: reader.rolname,
      problem: `reads ${listed(reader.columns)} without Writ, ${reach(reader, mine)}; last use: ${use}`,
    } as const;
    const repair = reader.rolsuper ? undefined : repairOf(reader, mine);
    return repair === undefined ? found : { ...found, repair };
  });
}

function reach({ rolname, rolsuper, owns, reads_all }: ReaderRow, rights: readonly RightRow[]) {
  if (rolsuper) return 'as a superuser: keep it sealed, for when Writ itself is down';
  if (owns) return 'as the owner of the table or a member of it';
  const grantees = new Set(rights.map(({ grantee }) => grantee));
  const named = [...grantees].map((name) =>
    name === pg.escapeIdentifier(rolname) || name === rolname ? 'directly' : `through ${name}`,
  );
  if (reads_all) named.push('through pg_read_all_data');
  return named.join(', ');
}

function repairOf(reader: ReaderRow, rights: readonly RightRow[]): Repair {
  const role = pg.escapeIdentifier(reader.rolname);
  if (reader.owns || reader.reads_all || rights.length === 0) {
    return {
      sql: [`ALTER ROLE ${role} NOLOGIN;`],
      undo: [`ALTER ROLE ${role} LOGIN;`],
      loses: `every program that logs in as ${reader.rolname}, all of its access`,
    };
  }
  const on = ({ name, relation }: RightRow) =>
    `SELECT${name === null ? '' : ` (${pg.escapeIdentifier(name)})`} ON ${relation}`;
  const grantees = [...new Set(rights.map(({ grantee }) => grantee))].join(', ');
  return {
    sql: rights.map((right) => `REVOKE ${on(right)} FROM ${right.grantee};`),
    undo: rights.map((right) => `GRANT ${on(right)} TO ${right.grantee};`),
    loses: `${grantees} and all members, reading of ${listed(reader.columns)}`,
  };
}

/** PostgreSQL keeps no time of a login: what is connected now is all that can be told. */
function lastUse(row: ActivityRow | undefined): string {
  if (row === undefined) return 'unknown, not connected now';
  const plain = row.plain ? ', without TLS' : '';
  return `${row.now} connected now from ${row.addresses.join(', ')}${plain}, the latest since ${row.since.toISOString()}`;
}

export function listed(names: readonly string[]): string {
  const shown = names.slice(0, 6).join(', ');
  return names.length > 6 ? `${shown} and ${names.length - 6} more` : shown;
}
