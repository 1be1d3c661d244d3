/** Ways to a classified column that no column right shows (threats P2, P7, P9). */
import { listed } from './postgres-check-logins.ts';
import { type CheckSubject, FAMILY, familyParameters } from './postgres-check-subject.ts';
import type { Finding } from './postgres-finding.ts';

const OURS = "n.nspname !~ '^(pg_|information_schema$|writ$|writ_v_)'";

const DEFINERS = `
with ${FAMILY}
select p.oid::regprocedure::text as function, case p.prokind when 'p' then 'PROCEDURE' else 'FUNCTION' end as kind,
  quote_ident(n.nspname) as schema, has_function_privilege('public', p.oid, 'EXECUTE') as public,
  coalesce(array_to_string(p.proconfig, ','), '') !~ 'search_path=' as unpinned,
  pg_get_userbyid(p.proowner) as owner,
  exists (select from family f where has_column_privilege(p.proowner, f.relation, f.attribute, 'SELECT')) as reads
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where p.prosecdef and ${OURS} order by 1`;

interface DefinerRow {
  readonly function: string;
  readonly kind: string;
  readonly schema: string;
  readonly public: boolean;
  readonly unpinned: boolean;
  readonly owner: string;
  readonly reads: boolean;
}

export async function checkDefiners(subject: CheckSubject): Promise<Finding[]> {
  const { rows } = await subject.client.query<DefinerRow>(DEFINERS, familyParameters(subject));
  return rows.flatMap((row): Finding[] => {
    const { kind, function: name, schema, owner, reads } = row;
    const can = reads ? `${owner}, who reads classified columns` : owner;
    const open: Finding = {
      severity: reads ? 'critical' : 'warning',
      check: 'definer-public',
      subject: name,
      problem: `PUBLIC, so every session too, may call it with the rights of ${can}`,
      repair: {
        sql: [`REVOKE EXECUTE ON ${kind} ${name} FROM PUBLIC;`],
        undo: [`GRANT EXECUTE ON ${kind} ${name} TO PUBLIC;`],
        loses: 'roles without a right of their own on the function, the calling of it',
      },
    };
    const unpinned: Finding = {
      severity: 'warning',
      check: 'definer-search-path',
      subject: name,
      problem: `runs as ${owner} with the caller's search_path: its names can mean the caller's objects`,
      repair: {
        sql: [`ALTER ${kind} ${name} SET search_path = ${schema}, pg_temp;`],
        undo: [`ALTER ${kind} ${name} RESET search_path;`],
        loses: 'the function, names in schemas other than its own',
      },
    };
    return [...(row.public ? [open] : []), ...(row.unpinned ? [unpinned] : [])];
  });
}

const OUTWARD = `
select 'foreign-table' as check, 'warning' as severity, c.oid::regclass::text as subject,
  format('is read from server %s with the rights of whoever maps to it there', s.srvname) as problem
from pg_foreign_table t join pg_class c on c.oid = t.ftrelid join pg_foreign_server s on s.oid = t.ftserver
union all
select 'user-mapping', case when u.umuser = 0 then 'critical' else 'warning' end, u.srvname,
  format('%s logs in to another database as the mapping says, outside every grant',
    case when u.umuser = 0 then 'PUBLIC, so every session too,' else u.usename::text end)
from pg_user_mappings u
union all
select 'foreign-server', 'critical', s.srvname, 'PUBLIC, so every session too, may use this server'
from pg_foreign_server s where has_server_privilege('public', s.oid, 'USAGE')
union all
select 'extension', 'critical', p.oid::regprocedure::text,
  format('PUBLIC may open connections of its own through extension %s', e.extname)
from pg_extension e join pg_depend d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid
  and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
join pg_proc p on p.oid = d.objid
where e.extname = 'dblink' and p.proname ~ '^dblink_connect' and p.proname <> 'dblink_connect_u'
  and has_function_privilege('public', p.oid, 'EXECUTE')
order by 1, 3`;

type PlainRow = Pick<Finding, 'check' | 'severity' | 'subject' | 'problem'>;

export async function checkOutward({ client }: CheckSubject): Promise<Finding[]> {
  const { rows } = await client.query<PlainRow>(OUTWARD);
  return rows.map((row) =>
    row.check === 'extension'
      ? {
          ...row,
          repair: {
            sql: [`REVOKE EXECUTE ON FUNCTION ${row.subject} FROM PUBLIC;`],
            undo: [`GRANT EXECUTE ON FUNCTION ${row.subject} TO PUBLIC;`],
            loses: 'roles without a right of their own on dblink, its connections',
          },
        }
      : row,
  );
}

const CHILDREN = `
with ${FAMILY}
select 'relative-granted' as check, 'warning' as severity, c.oid::regclass::text as subject,
  format('a child, partition or parent of a classified table, is granted on its own to %s',
    string_agg(distinct case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end, ', ')) as problem
from pg_class c, aclexplode(c.relacl) a
where c.oid in (select relation from family except select relation from classified)
  and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
group by c.oid order by 3`;

const STATISTICS = `
with ${FAMILY}
select 'extended-statistics' as check, 'warning' as severity, s.oid as id, format('%I.%I', n.nspname, s.stxname) as subject,
  format('holds values of classified columns of %s', s.stxrelid::regclass) as problem,
  pg_get_statisticsobjdef(s.oid) as definition
from pg_statistic_ext s join pg_namespace n on n.oid = s.stxnamespace
where exists (select from family f where f.relation = s.stxrelid
  and (f.attribute = any (s.stxkeys) or s.stxexprs is not null))
union all
select 'expression-index', 'note', i.indexrelid, i.indexrelid::regclass::text,
  format('is made of an expression on classified columns of %s: its statistics hold values of it', i.indrelid::regclass), null
from pg_index i where (i.indexprs is not null or i.indpred is not null) and exists (
  select from pg_depend d join family f on f.relation = d.refobjid and f.attribute = d.refobjsubid
  where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid and d.refclassid = 'pg_class'::regclass)
order by 1, 4`;

export async function checkRelatives(subject: CheckSubject): Promise<Finding[]> {
  const parameters = familyParameters(subject);
  const children = await subject.client.query<PlainRow>(CHILDREN, parameters);
  const statistics = await subject.client.query<PlainRow & { definition: string | null }>(
    STATISTICS,
    parameters,
  );
  const kept = statistics.rows.map(
    ({ check, severity, subject: name, problem, definition }): Finding => {
      const found = { check, severity, subject: name, problem };
      if (definition === null) return found;
      const repair = {
        sql: [`DROP STATISTICS ${name};`],
        undo: [`${definition};`],
        loses: 'the planner, an estimate',
      };
      return { ...found, repair };
    },
  );
  return [...children.rows, ...kept];
}

const VIEWS = `
with ${FAMILY}, reads (view, relation, attribute, whole) as (
  select r.ev_class, d.refobjid, d.refobjsubid, r.ev_action::text ~ ':varattno 0 '
  from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
    and d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
)
select v.oid::regclass::text as subject, array_agg(distinct format('%s.%I', f.relation::regclass, f.name)) as columns,
  array(select r.rolname::text from pg_roles r where r.rolcanlogin and not r.rolsuper and r.rolname !~ '^writ_'
    and not pg_has_role(r.oid, v.relowner, 'USAGE') and has_any_column_privilege(r.oid, v.oid, 'SELECT')
    and has_schema_privilege(r.oid, v.relnamespace, 'USAGE') order by 1) as logins,
  has_any_column_privilege('public', v.oid, 'SELECT') as public
from reads join family f on f.relation = reads.relation and (f.attribute = reads.attribute or reads.whole)
  join pg_class v on v.oid = reads.view join pg_namespace n on n.oid = v.relnamespace
where v.relkind in ('v', 'm') and pg_get_userbyid(v.relowner) !~ '^writ_o_[0-9a-f]{16}$' and ${OURS}
group by v.oid order by 1`;

interface ViewRow {
  readonly subject: string;
  readonly columns: readonly string[];
  readonly logins: readonly string[];
  readonly public: boolean;
}

/** Views of others show what their owners read, whoever asks. */
export async function checkViews(subject: CheckSubject): Promise<Finding[]> {
  const { rows } = await subject.client.query<ViewRow>(VIEWS, familyParameters(subject));
  return rows.map((row): Finding => {
    const who = row.public ? 'PUBLIC, so every session too' : listed(row.logins);
    const shows = `shows ${listed(row.columns)} unmasked`;
    const found = { check: 'view', subject: row.subject };
    if (who === '') return { ...found, severity: 'note', problem: `${shows}, to its owner alone` };
    if (!row.public) return { ...found, severity: 'critical', problem: `${shows} to ${who}` };
    return {
      ...found,
      severity: 'critical',
      problem: `${shows} to ${who}`,
      repair: {
        sql: [`REVOKE SELECT ON ${row.subject} FROM PUBLIC;`],
        undo: [`GRANT SELECT ON ${row.subject} TO PUBLIC;`],
        loses: 'roles without a right of their own on the view, its reading',
      },
    };
  });
}

/** Names that a function's text holds are the best that can be told of what it touches. */
const TRIGGERS = `
with ${FAMILY}
select t.tgname as trigger, t.tgrelid::regclass::text as relation, p.oid::regprocedure::text as function,
  array(select format('%s on %s', case when has_table_privilege(g.rolname, o.oid, 'INSERT') then 'SELECT' else 'INSERT' end, o.oid::regclass)
    from pg_class o join pg_namespace n on n.oid = o.relnamespace
    where o.relkind in ('r', 'p') and o.oid <> t.tgrelid and ${OURS}
      and p.prosrc ~* ('\\m' || regexp_replace(o.relname, '[^a-zA-Z0-9_]', '.', 'g') || '\\M')
      and not (has_table_privilege(g.rolname, o.oid, 'INSERT') and has_table_privilege(g.rolname, o.oid, 'SELECT'))
    order by 1) as tables,
  has_function_privilege(g.rolname, p.oid, 'EXECUTE') as executable, g.rolname as group
from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_roles g on g.rolname = any ($4)
where not t.tgisinternal and t.tgenabled <> 'D' and not p.prosecdef
  and t.tgrelid in (select relation from classified) order by 1, 2, 6`;

interface TriggerRow {
  readonly trigger: string;
  readonly relation: string;
  readonly function: string;
  readonly tables: readonly string[];
  readonly executable: boolean;
  readonly group: string;
}

/** A trigger runs with the session's rights: what it touches, a grant that writes must have too (P2). */
export async function checkTriggers(subject: CheckSubject): Promise<Finding[]> {
  const groups = subject.grants.map(({ groupRole }) => groupRole);
  const parameters = [...familyParameters(subject), groups];
  const { rows } = await subject.client.query<TriggerRow>(TRIGGERS, parameters);
  return rows.flatMap((row): Finding[] => {
    if (row.tables.length === 0) return [];
    const grant = subject.grants.find(({ groupRole }) => groupRole === row.group)?.name;
    const needs = listed(row.tables);
    return [
      {
        severity: 'warning',
        check: 'trigger',
        subject: `${row.trigger} of ${row.relation}`,
        problem: `a write by grant ${grant} fails in ${row.function}, which seems to need ${needs}: give the grant those rights`,
      },
    ];
  });
}
