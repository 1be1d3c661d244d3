import type { CatalogTable } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Classification, TableIndex } from './postgres-classes.ts';
import { identifier, literal, qualified } from './postgres-quote.ts';

/**
 * Two runs at once would meet in the middle of each other. The key spells "writ". Advisory locks are
 * each database's own and roles are the server's, so the catalog of roles is locked too, in a mode that
 * keeps out nothing but another run of ours, ANALYZE and VACUUM.
 */
export const SUPERUSER_ALONE = `DO $writ$
BEGIN
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    RAISE EXCEPTION 'run this as a superuser';
  END IF;
  PERFORM pg_advisory_xact_lock(2003986804);
  LOCK TABLE pg_authid IN SHARE UPDATE EXCLUSIVE MODE;
END $writ$;`;

/** What must hold before anything is changed; otherwise the plan would build on someone else's ground. */
export function preconditions(database: string, login: string): string {
  return `${SUPERUSER_ALONE}
DO $writ$
BEGIN
  IF current_database() <> ${literal(database)} THEN
    RAISE EXCEPTION 'this plan is for another database: %', ${literal(database)};
  END IF;
  IF EXISTS (SELECT FROM pg_namespace n JOIN pg_roles o ON o.oid = n.nspowner WHERE n.nspname = 'writ' AND NOT o.rolsuper)
    OR EXISTS (SELECT FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner
      WHERE c.relnamespace = to_regnamespace('writ') AND NOT o.rolsuper AND o.rolname <> 'writ_admin')
  THEN
    RAISE EXCEPTION 'schema writ belongs to someone else';
  END IF;
  IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = ${literal(login)}
    AND (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
      OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid)))
  THEN
    RAISE EXCEPTION 'role % has attributes or memberships: a gateway must log in as a role without', ${literal(login)};
  END IF;
END $writ$;`;
}

export interface CheckedTables {
  readonly tables: TableIndex;
  readonly classified: Classification;
  /** What grants give without a view. */
  readonly direct: readonly CatalogTable[];
}

/** Aborts the plan if a classified column can be read around its mask, or a role of ours can be used. */
export function postconditions(checked: CheckedTables): string {
  const { direct } = checked;
  const filters = direct.length > 0 ? [warnOfFilters(direct)] : [];
  return [ROLES_ARE_UNUSED, ...columnsAreMasked(checked), ...filters, WARN_OF_PUBLIC].join('\n');
}

const ROLES_ARE_UNUSED = `DO $writ$
DECLARE
  used text;
BEGIN
  SELECT string_agg(format('%s is a member of %s', m.member::regrole, m.roleid::regrole), ', ') INTO used
    FROM pg_auth_members m JOIN pg_roles member ON member.oid = m.member JOIN pg_roles role ON role.oid = m.roleid
    WHERE member.rolname ~ '^writ_[go]_[0-9a-f]{16}$' OR role.rolname = 'writ_admin' OR role.rolname ~ '^writ_o_[0-9a-f]{16}$'
      OR (role.rolname IN (SELECT g.name FROM writ.grant_group g) AND member.rolname !~ '^(writ_[0-9a-f]{16}|writ_admin)$'
        AND NOT EXISTS (SELECT FROM writ.grant_group g WHERE g.name = role.rolname AND g.ddl_owner = member.rolname));
  IF used IS NOT NULL THEN
    RAISE EXCEPTION 'roles of Writ are in use by others: %', used;
  END IF;
END $writ$;`;

const WARN_OF_PUBLIC = `DO $writ$
DECLARE
  found text;
BEGIN
  FOR found IN SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'writ')
      AND has_function_privilege('public', p.oid, 'EXECUTE')
  LOOP
    RAISE WARNING 'PUBLIC, so every session too, may call % with the rights of its owner', found;
  END LOOP;
  FOR found IN SELECT nspname FROM pg_namespace WHERE has_schema_privilege('public', oid, 'CREATE') LOOP
    RAISE WARNING 'PUBLIC, so every session too, may create objects in schema %', found;
  END LOOP;
  SELECT string_agg(DISTINCT format('%s on %s', a.privilege_type, c.oid::regclass), ', ') INTO found
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
    WHERE a.grantee = 0 AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'writ') AND n.nspname !~ '^pg_(toast|temp)';
  IF found IS NOT NULL THEN
    RAISE WARNING 'PUBLIC, so every session too, has %', found;
  END IF;
END $writ$;`;

function columnsAreMasked({ tables, classified, direct }: CheckedTables): string[] {
  const columns = [...classified].flatMap(([table, masks]) => {
    const known = tables.get(table);
    if (known === undefined) return [];
    return [...masks.keys()].map((name) => `(${relation(known)}, ${literal(name)})`);
  });
  if (columns.length === 0) return [];
  const list = `(VALUES ${columns.join(', ')}) AS classified (relation, name)`;
  const checks = [directReads(list), generatedColumns(list)];
  return direct.length > 0 ? [...checks, viewsBehind(list, direct)] : checks;
}

/** Only a barrier keeps a client's own predicates from seeing the rows that a view leaves out (P7). */
function warnOfFilters(direct: readonly CatalogTable[]): string {
  return `DO $writ$
DECLARE
  found regclass;
BEGIN
  FOR found IN SELECT c.oid FROM pg_class c JOIN pg_rewrite r ON r.ev_class = c.oid
    WHERE c.relkind = 'v' AND c.oid IN (${direct.map(relation).join(', ')})
      AND r.ev_action::text ~ ':quals \\{' AND NOT coalesce(c.reloptions, '{}') && ARRAY['security_barrier=true', 'security_barrier=on', 'security_barrier=1']
  LOOP
    RAISE WARNING 'view % leaves out rows and is no security_barrier: error messages can tell of those rows', found;
  END LOOP;
END $writ$;`;
}

/**
 * Partitions and other children of a classified table hold the same columns; who reads one of its
 * parents reads its rows too.
 */
function familyOf(list: string): string {
  return `descendants (relation, name) AS (
    SELECT relation, classified.name FROM ${list}
    UNION
    SELECT i.inhrelid::regclass, f.name FROM descendants f JOIN pg_inherits i ON i.inhparent = f.relation
  ), ancestors (relation, name) AS (
    SELECT relation, classified.name FROM ${list}
    UNION
    SELECT i.inhparent::regclass, f.name FROM ancestors f JOIN pg_inherits i ON i.inhrelid = f.relation
  ), family (relation, name, attribute) AS (
    SELECT f.relation, f.name, a.attnum FROM (SELECT * FROM descendants UNION SELECT * FROM ancestors) f
      JOIN pg_attribute a ON a.attrelid = f.relation AND a.attname = f.name
  )`;
}

function directReads(list: string): string {
  return `DO $writ$
DECLARE
  readable text;
BEGIN
  WITH RECURSIVE ${familyOf(list)}
  SELECT string_agg(DISTINCT format('%s.%I', relation, family.name), ', ') INTO readable
    FROM (SELECT name FROM writ.grant_group UNION SELECT ddl_owner FROM writ.grant_group WHERE ddl_owner IS NOT NULL) g CROSS JOIN family
    WHERE has_column_privilege(g.name, relation, attribute, 'SELECT');
  IF readable IS NOT NULL THEN
    RAISE EXCEPTION 'sessions could read these columns around their mask: %', readable
      USING HINT = 'Look for rights that PUBLIC or the grant itself has on the table.';
  END IF;
END $writ$;`;
}

/** A generated column that is made of a classified one shows it, by a view of ours too. */
function generatedColumns(list: string): string {
  return `DO $writ$
DECLARE
  readable text;
BEGIN
  SELECT string_agg(DISTINCT format('%s.%I', source.attrelid::regclass, made.attname), ', ') INTO readable
    FROM ${list}
    JOIN pg_attribute source ON source.attrelid = classified.relation AND source.attname = classified.name
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = source.attrelid AND d.refobjsubid = source.attnum
    JOIN pg_attribute made ON made.attrelid = source.attrelid AND made.attgenerated <> ''
    LEFT JOIN pg_attrdef def ON def.adrelid = made.attrelid AND def.adnum = made.attnum
    WHERE ((d.classid = 'pg_class'::regclass AND d.objid = made.attrelid AND d.objsubid = made.attnum)
        OR (d.classid = 'pg_attrdef'::regclass AND d.objid = def.oid))
      AND (made.attrelid::regclass, made.attname) NOT IN (SELECT relation, classified.name FROM ${list})
      AND EXISTS (SELECT FROM writ.grant_group g
        WHERE has_column_privilege(g.name, made.attrelid, made.attnum, 'SELECT')
          OR has_column_privilege(g.view_owner, made.attrelid, made.attnum, 'SELECT'));
  IF readable IS NOT NULL THEN
    RAISE EXCEPTION 'these generated columns would show classified ones: %', readable
      USING HINT = 'Classify them too.';
  END IF;
END $writ$;`;
}

/**
 * A granted view runs with its owner's rights: it must not reach a classified column. A whole row
 * (`to_jsonb(t)`) names no column in pg_depend, so the view's own text must tell.
 */
function viewsBehind(list: string, direct: readonly CatalogTable[]): string {
  const granted = direct.map((table) => `(${relation(table)})`).join(', ');
  return `DO $writ$
DECLARE
  readable text;
BEGIN
  WITH RECURSIVE ${familyOf(list)}, reads (granted, relation, attribute, whole) AS (
    SELECT start.relation, start.relation, 0, false FROM (VALUES ${granted}) AS start (relation)
    UNION
    SELECT reads.granted, d.refobjid::regclass, d.refobjsubid, r.ev_action::text ~ ':varattno 0 ' FROM reads
      JOIN pg_rewrite r ON r.ev_class = reads.relation
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
  )
  SELECT string_agg(DISTINCT format('%s reads %s.%I', granted, family.relation, family.name), ', ') INTO readable
    FROM reads JOIN family ON family.relation = reads.relation
    WHERE reads.attribute = family.attribute OR reads.whole;
  IF readable IS NOT NULL THEN
    RAISE EXCEPTION 'granted views would show classified columns: %', readable;
  END IF;
END $writ$;`;
}

function relation(table: CatalogTable): string {
  return `${literal(qualified(table))}::regclass`;
}

/** What PUBLIC loses: each would let a session keep things of its own in the database. */
export function publicRights(database: string): string {
  return `DO $writ$
BEGIN
  IF EXISTS (SELECT FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
    WHERE d.datname = current_database() AND a.grantee = 0 AND a.privilege_type = 'TEMPORARY')
  THEN
    REVOKE TEMPORARY ON DATABASE ${identifier(database)} FROM PUBLIC;
    INSERT INTO writ.changed VALUES ('temporary') ON CONFLICT DO NOTHING;
  END IF;
  IF EXISTS (SELECT FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
    WHERE n.nspname = 'public' AND a.grantee = 0 AND a.privilege_type = 'CREATE')
  THEN
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    INSERT INTO writ.changed VALUES ('create') ON CONFLICT DO NOTHING;
  END IF;
END $writ$;`;
}
