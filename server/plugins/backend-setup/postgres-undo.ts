import { SUPERUSER_ALONE } from './postgres-checks.ts';
import { GATEWAY_FUNCTIONS, IDENTITY_FUNCTION } from './postgres-functions.ts';
import { identifier, literal } from './postgres-quote.ts';

/**
 * Removes sessions, grants and functions, and gives back what the plan took from others. It drops
 * nothing that others built on Writ: if a row policy uses `writ.identity()`, it stops and says so.
 */
export function undoSql(database: string, login: string): string {
  return `${SUPERUSER_ALONE}
LOCK TABLE writ.session IN ACCESS EXCLUSIVE MODE;
DO $writ$
BEGIN
  PERFORM writ.close_session(role) FROM writ.list_sessions();
END $writ$;
DO $writ$
DECLARE
  former name;
BEGIN
  FOR former IN SELECT r.rolname FROM pg_roles r
    WHERE r.rolname IN (SELECT name FROM writ.grant_group UNION SELECT view_owner FROM writ.grant_group)
  LOOP
    EXECUTE format('DROP OWNED BY %I', former);
    EXECUTE format('DROP ROLE %I', former);
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
${[...GATEWAY_FUNCTIONS, IDENTITY_FUNCTION].map((signature) => `DROP FUNCTION ${signature};`).join('\n')}
DROP TABLE writ.session, writ.grant_group, writ.changed;
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
END $writ$;`;
}
