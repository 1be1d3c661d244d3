import { SUPERUSER_ALONE } from './postgres-checks.ts';
import { TAKE_BACK_OWNERS } from './postgres-ddl.ts';
import { DRIFT_FUNCTIONS } from './postgres-drift.ts';
import { GATEWAY_FUNCTIONS, IDENTITY_FUNCTION, TABLES, TABLES_SQL } from './postgres-functions.ts';
import { MOVE_HOME } from './postgres-layout.ts';
import { identifier, literal } from './postgres-quote.ts';
import { DROP_TWIN_ROLE, dropTwinSql } from './postgres-twin.ts';

/**
 * Removes sessions, grants and functions, and gives back what the plan took from others. It drops
 * nothing that others built on Writ: if a row policy uses `writ.identity()`, it stops and says so.
 */
export function undoSql(database: string, login: string): string {
  return `${SUPERUSER_ALONE}
${TABLES_SQL}
LOCK TABLE writ.session IN ACCESS EXCLUSIVE MODE;
DO $writ$
BEGIN
  PERFORM writ.close_session(role) FROM writ.list_sessions();
END $writ$;
${TAKE_BACK_OWNERS}
DO $writ$
DECLARE
  former name;
  parameter text;
BEGIN
  FOR former IN SELECT r.rolname FROM pg_roles r
    WHERE r.rolname IN (SELECT name FROM writ.grant_group UNION SELECT view_owner FROM writ.grant_group)
  LOOP
    EXECUTE format('DROP OWNED BY %I', former);
    EXECUTE format('DROP ROLE %I', former);
  END LOOP;
  FOR former IN SELECT r.rolname FROM writ.changed c JOIN pg_roles r ON c.what = 'owner ' || r.rolname LOOP
    BEGIN
      EXECUTE format('DROP ROLE %I', former);
    EXCEPTION WHEN dependent_objects_still_exist THEN
      RAISE WARNING 'role % stays, because it owns things', former;
    END;
  END LOOP;
  FOR parameter IN SELECT substr(c.what, 11) FROM writ.changed c WHERE c.what LIKE 'parameter %' LOOP
    EXECUTE format('REVOKE SET ON PARAMETER %s FROM writ_admin', parameter);
  END LOOP;
  IF EXISTS (SELECT FROM writ.changed WHERE what = 'temporary') THEN
    GRANT TEMPORARY ON DATABASE ${identifier(database)} TO PUBLIC;
  END IF;
  IF EXISTS (SELECT FROM writ.changed WHERE what = 'create') THEN
    GRANT CREATE ON SCHEMA public TO PUBLIC;
  END IF;
  IF EXISTS (SELECT FROM writ.changed WHERE what = 'connect') THEN
    REVOKE CONNECT ON DATABASE ${identifier(database)} FROM ${identifier(login)};
  END IF;
  PERFORM set_config('writ.login_made', (SELECT what FROM writ.changed WHERE what = 'login ' || ${literal(login)}), true);
END $writ$;
${MOVE_HOME}
${[...GATEWAY_FUNCTIONS, IDENTITY_FUNCTION].map((signature) => `DROP FUNCTION IF EXISTS ${signature};`).join('\n')}
${DRIFT_FUNCTIONS.map((signature) => `DROP FUNCTION IF EXISTS ${signature};`).join('\n')}
${dropTwinSql(login, database)}
DROP TABLE ${TABLES.join(', ')};
DROP SCHEMA writ;
-- The roles stay where another database of this server still needs them.
DO $writ$
BEGIN
  DROP ROLE writ_admin;
EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
END $writ$;
DO $writ$
BEGIN
  IF current_setting('writ.login_made', true) <> '' THEN
    DROP ROLE ${identifier(login)};
  END IF;
EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
END $writ$;
${DROP_TWIN_ROLE}`;
}
