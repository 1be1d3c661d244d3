/**
 * Shows that a session of a grant reads no classified column: from the catalog, and by trying. It logs
 * in as a role of the kind that gateways use, opened by the functions and with the rights of the
 * gateway's login, and writes nothing.
 */
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { scramVerifier } from '../runtime/scram-verifier.ts';
import { answerOf } from './postgres-answer.ts';
import { withPostgres } from './postgres-catalog.ts';
import { inReadOnly } from './postgres-check.ts';
import {
  type CheckSubject,
  type DeclaredBackend,
  FAMILY,
  familyParameters,
} from './postgres-check-subject.ts';
import { type AttemptTarget, attemptsOn } from './postgres-leak-attempts.ts';
import { Needles, type RawValue } from './postgres-needles.ts';

export type Verdict = 'refused' | 'masked' | 'leak';

export interface TriedAttempt {
  /** `schema.table.column`. */
  readonly column: string;
  readonly attempt: string;
  readonly verdict: Verdict;
  /** SQLSTATE of the refusal. */
  readonly code?: string;
}

export interface GrantProof {
  readonly grant: string;
  /** What the catalog says against it; empty if nothing. */
  readonly catalog: readonly string[];
  /** Columns whose values were compared; one with none long enough to tell is not among them. */
  readonly compared: readonly string[];
  readonly attempts: readonly TriedAttempt[];
}

const SAMPLE = 50;

/** @param url an administrator's */
export async function proveGrant(
  url: string,
  declared: DeclaredBackend,
  grant: DeclaredBackend['grants'][number],
): Promise<GrantProof> {
  return withPostgres({ connectionString: url }, async (admin) => {
    const targets = await inReadOnly(admin, () => targetsOf({ ...declared, client: admin }, grant));
    const session = await openSession(admin, declared.login, grant.groupRole);
    try {
      return await withPostgres(sessionConfig(url, session), async (client) => {
        const sealed = await seal(admin, url, session);
        const catalog = [...sealed, ...(await catalogProblems(admin, declared, session.role))];
        const attempts: TriedAttempt[] = [];
        for (const target of targets) attempts.push(...(await tryAll(client, target)));
        const compared = targets.filter(({ needles }) => needles.size > 0).map(({ name }) => name);
        return { grant: grant.name, catalog, compared, attempts };
      });
    } finally {
      await admin.query('select writ.close_session($1)', [session.role]);
    }
  });
}

/** How a database is not as its last setup made it, one line each. @param url an administrator's */
export async function driftOf(url: string): Promise<readonly string[]> {
  return withPostgres({ connectionString: url }, async (client) => {
    const { rows } = await client.query<{ kind: string; what: string }>(
      'select kind, what from writ.drift() order by kind, what',
    );
    return rows.map(({ kind, what }) => `${kind} ${what}`);
  });
}

export function leaksIn(proofs: readonly GrantProof[]): number {
  return proofs.reduce(
    (sum, { catalog, attempts }) =>
      sum + catalog.length + attempts.filter(({ verdict }) => verdict === 'leak').length,
    0,
  );
}

interface OpenedSession {
  readonly role: string;
  readonly password: string;
}

/** With the rights of the gateway's login and no more, whatever the administrator may do. */
async function openSession(
  client: pg.Client,
  login: string,
  group: string,
): Promise<OpenedSession> {
  const role = `writ_${randomBytes(8).toString('hex')}`;
  const password = randomBytes(32).toString('hex');
  await client.query('begin');
  try {
    await client.query(`set local role ${pg.escapeIdentifier(login)}`);
    await client.query(
      "select writ.open_session($1, $2, $3, clock_timestamp() + interval '10 minutes', 'writ backend prove')",
      [role, scramVerifier(password), group],
    );
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  }
  return { role, password };
}

function sessionConfig(url: string, { role, password }: OpenedSession): pg.ClientConfig {
  const own = new URL(url);
  own.username = role;
  own.password = password;
  return { connectionString: own.href, statement_timeout: 5000 };
}

/** After it the role's password is of no use: a second login must fail (threats P5). */
async function seal(admin: pg.Client, url: string, session: OpenedSession): Promise<string[]> {
  await admin.query('select writ.seal_session($1)', [session.role]);
  const second = withPostgres(sessionConfig(url, session), async () => true);
  return (await second.catch(() => false)) ? ['a sealed session role could log in again'] : [];
}

const PROBLEMS = `
with ${FAMILY}
select format('%s may read %s.%I', r.rolname, f.relation::regclass, f.name) as problem
  from family f, pg_roles r where (r.rolname = $4 or pg_has_role($4, r.oid, 'MEMBER'))
    and has_column_privilege(r.oid, f.relation, f.attribute, 'SELECT')
union all select format('%s has an attribute of an administrator', r.rolname) from pg_roles r
  where (r.rolname = $4 or pg_has_role($4, r.oid, 'MEMBER'))
    and (r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls)
union all select format('%s is a member of %s', $4::text, r.rolname) from pg_roles r
  where pg_has_role($4, r.oid, 'MEMBER') and r.rolname <> $4 and r.rolname !~ '^writ_g_'
    and r.rolname not in (select coalesce(g.ddl_owner, '') from writ.grant_group g)
union all select format('%s could log in after it was sealed', r.rolname) from pg_roles r
  where r.rolname = $4 and r.rolcanlogin`;

async function catalogProblems(
  client: pg.Client,
  declared: DeclaredBackend,
  role: string,
): Promise<string[]> {
  const parameters = [...familyParameters(declared), role];
  const { rows } = await client.query<{ problem: string }>(PROBLEMS, parameters);
  return rows.map(({ problem }) => problem);
}

interface Target extends AttemptTarget {
  readonly name: string;
  readonly needles: Needles;
}

const PLACES = `
with ${FAMILY}
select distinct k.schema, k.relation as table, k.name as column, c.oid::regclass::text as base,
  (select v.oid::regclass::text from pg_class v join pg_namespace vn on vn.oid = v.relnamespace
    where v.relname = k.relation and v.relkind = 'v' and pg_get_userbyid(v.relowner) ~ '^writ_o_[0-9a-f]{16}$'
      and has_any_column_privilege($4, v.oid, 'SELECT') and exists (select from pg_attribute a
        where a.attrelid = v.oid and a.attname = k.name and not a.attisdropped)
    order by vn.nspname = k.schema desc limit 1) as view
from unnest($1::text[], $2::text[], $3::text[]) as k (schema, relation, name)
  join pg_namespace n on n.nspname in (k.schema, 'writ_base_' || k.schema)
  join pg_class c on c.relnamespace = n.oid and c.relname = k.relation
  join classified f on f.relation = c.oid and f.name = k.name
order by 1, 2, 3`;

interface PlaceRow extends AttemptTarget {
  readonly view: string | null;
}

async function targetsOf(
  subject: CheckSubject,
  grant: DeclaredBackend['grants'][number],
): Promise<Target[]> {
  const { client } = subject;
  const parameters = [...familyParameters(subject), grant.groupRole];
  const { rows } = await client.query<PlaceRow>(PLACES, parameters);
  const targets: Target[] = [];
  for (const row of rows) {
    const column = pg.escapeIdentifier(row.column);
    const raw = await rawValuesOf(client, row);
    const shown = row.view === null ? [] : await textsOf(client, column, row.view, SAMPLE * 20);
    const needles = new Needles(raw, new Set(shown));
    targets.push({ ...row, name: `${row.schema}.${row.table}.${row.column}`, needles });
  }
  return targets;
}

async function textsOf(
  client: pg.ClientBase,
  column: string,
  relation: string,
  most: number,
): Promise<string[]> {
  const { rows } = await client.query<{ value: string }>(
    `select ${column}::text as value from ${relation} where ${column} is not null limit ${most}`,
  );
  return rows.map(({ value }) => value);
}

const SENDER = `select coalesce(b.typsend, t.typsend)::regproc::text as send
  from pg_attribute a join pg_type t on t.oid = a.atttypid left join pg_type b on b.oid = nullif(t.typbasetype, 0)
  where a.attrelid = $1::regclass and a.attname = $2`;

async function rawValuesOf(
  client: pg.ClientBase,
  { base, column }: AttemptTarget,
): Promise<RawValue[]> {
  const quoted = pg.escapeIdentifier(column);
  const found = await client.query<{ send: string }>(SENDER, [base, column]);
  const send = found.rows[0]?.send ?? '-';
  const binary = send === '-' ? 'null::bytea' : `${send}(${quoted})`;
  const { rows } = await client.query<{ text: string; binary: Buffer | null }>(
    `select ${quoted}::text as text, ${binary} as binary from ${base}
       where ${quoted} is not null limit ${SAMPLE}`,
  );
  return rows.map(({ text, binary: bytes }) => ({ text, binary: bytes ?? undefined }));
}

async function tryAll(client: pg.Client, target: Target): Promise<TriedAttempt[]> {
  const tried: TriedAttempt[] = [];
  for (const { name, sql, binary, mustFail } of attemptsOn(target)) {
    const { code, said } = await answerOf(client, { sql, binary });
    const shown = target.needles.isIn(said);
    const verdict =
      shown || (mustFail && code === undefined) ? 'leak' : code ? 'refused' : 'masked';
    const found = { column: target.name, attempt: name, verdict } as const;
    tried.push(code === undefined ? found : { ...found, code });
  }
  return tried;
}
