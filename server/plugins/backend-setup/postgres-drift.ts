/**
 * What a setup left behind, and how the database differs from it since. `writ.drift()` tells an
 * administrator, or `writ backend check`, which role, right, view, function or column is not as the
 * last setup made it.
 */

/** Schemas as they are without Writ: a moved table is still known by its first name. */
const HOME = "regexp_replace(n.nspname, '^writ_base_', '')";

/**
 * One line for each thing that the grants rest on. Session roles come and go and are no part of it.
 * `ours`: groups, view owners, ddl owners, the functions' owner, and whoever may open sessions.
 */
const FACTS = `CREATE OR REPLACE FUNCTION writ.facts() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $writ$
  WITH ours AS (
    SELECT r.oid, r.rolname FROM pg_roles r WHERE r.rolname = 'writ_admin'
      OR r.rolname IN (SELECT name FROM writ.grant_group UNION SELECT view_owner FROM writ.grant_group UNION SELECT ddl_owner FROM writ.grant_group)
      OR r.oid IN (SELECT a.grantee FROM pg_proc p, aclexplode(p.proacl) a
        WHERE p.oid = 'writ.open_session(name, text, name, timestamptz, text)'::regprocedure)
  ), theirs AS (
    -- Groups and ddl owners of other databases of this server, which writ_admin gives out there.
    SELECT r.oid FROM pg_roles r WHERE r.rolname ~ '^writ_g_[0-9a-f]{16}$' AND r.oid NOT IN (SELECT o.oid FROM ours o)
    UNION SELECT m.member FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
      WHERE r.rolname ~ '^writ_g_[0-9a-f]{16}$' AND r.oid NOT IN (SELECT o.oid FROM ours o)
        AND m.member <> 'writ_admin'::regrole
  ), rights (what, acl) AS (
    SELECT c.oid::regclass::text, c.relacl FROM pg_class c WHERE c.relacl IS NOT NULL
    UNION ALL SELECT format('%s.%I', t.attrelid::regclass, t.attname), t.attacl FROM pg_attribute t WHERE t.attacl IS NOT NULL
    UNION ALL SELECT p.oid::regprocedure::text, p.proacl FROM pg_proc p WHERE p.proacl IS NOT NULL
    UNION ALL SELECT 'schema ' || n.nspname, n.nspacl FROM pg_namespace n WHERE n.nspacl IS NOT NULL
    UNION ALL SELECT 'database ' || d.datname, d.datacl FROM pg_database d WHERE d.datname = current_database() AND d.datacl IS NOT NULL
  )
  SELECT format('role %s: %s', r.rolname, ROW(r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication, r.rolbypassrls))
    FROM pg_roles r JOIN ours o ON o.oid = r.oid
  UNION ALL SELECT format('member %s of %s', m.member::regrole, m.roleid::regrole) FROM pg_auth_members m
    WHERE (m.member IN (SELECT oid FROM ours) OR m.roleid IN (SELECT oid FROM ours))
      AND m.member::regrole::text !~ '^writ_[0-9a-f]{16}$' AND m.roleid::regrole::text !~ '^writ_[0-9a-f]{16}$'
      AND NOT (m.member = 'writ_admin'::regrole AND m.roleid IN (SELECT oid FROM theirs))
  UNION ALL SELECT format('%s of %s on %s', a.privilege_type, o.rolname, rights.what)
    FROM rights, aclexplode(rights.acl) a JOIN ours o ON o.oid = a.grantee WHERE rights.what !~ '^writ_[0-9a-f]{16}'
  UNION ALL SELECT format('%s of PUBLIC on %s', a.privilege_type, c.oid::regclass)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN (SELECT DISTINCT k.schema, k.name FROM writ.known_column k) k ON k.schema = ${HOME} AND k.name = c.relname,
      aclexplode(c.relacl) a
    WHERE a.grantee = 0
  UNION ALL SELECT format('view %s: %s', c.oid::regclass, md5(pg_get_viewdef(c.oid)))
    FROM pg_class c JOIN ours o ON o.oid = c.relowner WHERE c.relkind = 'v'
  UNION ALL SELECT format('trigger %s of %s: %s', t.tgname, t.tgrelid::regclass, t.tgenabled)
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN ours o ON o.oid = c.relowner WHERE c.relkind = 'v'
  UNION ALL SELECT format('function %s of %s: %s', p.oid::regprocedure, p.proowner::regrole,
      md5(p.prosrc || p.prosecdef::text || coalesce(p.proconfig::text, '')))
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'writ' OR (p.proowner IN (SELECT o.oid FROM ours o WHERE o.rolname ~ '^writ_o_'))
  UNION ALL SELECT format('owner of %s: %s', c.oid::regclass, c.relowner::regrole)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'writ' AND c.relkind = 'r'
$writ$;`;

const DRIFT = `-- Empty while the database is as the last setup made it. kind: missing, added, new-column, changed-column.
CREATE OR REPLACE FUNCTION writ.drift() RETURNS TABLE (kind text, what text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $writ$
  (SELECT 'missing', m.fact FROM writ.made m EXCEPT SELECT 'missing', f FROM writ.facts() f)
  UNION ALL (SELECT 'added', f FROM writ.facts() f EXCEPT SELECT 'added', m.fact FROM writ.made m)
  UNION ALL SELECT CASE WHEN k.type IS NULL THEN 'new-column' ELSE 'changed-column' END,
      format('%s.%s.%s', ${HOME}, c.relname, a.attname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN writ.known_column k ON k.schema = ${HOME} AND k.name = c.relname AND k.column_name = a.attname
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND k.type IS DISTINCT FROM format_type(a.atttypid, a.atttypmod)
      AND EXISTS (SELECT FROM writ.known_column w WHERE w.schema = ${HOME} AND w.name = c.relname)
      AND c.relowner::regrole::text !~ '^writ_o_[0-9a-f]{16}$'
$writ$;`;

export const DRIFT_FUNCTIONS = ['writ.drift()', 'writ.facts()'] as const;

/** The functions; for administrators alone. */
export const DRIFT_SQL = [
  FACTS,
  DRIFT,
  ...DRIFT_FUNCTIONS.map((signature) => `REVOKE ALL ON FUNCTION ${signature} FROM PUBLIC;`),
].join('\n');

/** Remembers what the plan made; its last step. */
export const REMEMBER_SQL = `DELETE FROM writ.made;
INSERT INTO writ.made SELECT DISTINCT f FROM writ.facts() f;`;
