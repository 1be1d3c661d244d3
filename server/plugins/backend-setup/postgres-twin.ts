/**
 * The second login of a gateway whose password is rotated. Each of the pair may set and take the other's
 * password, by two functions that name no role: who holds one login could act as the other anyway. What it
 * sets is a SCRAM verifier, so that no statement and no log holds a password. Outside of a rotation one of
 * the two cannot log in.
 */
import { identifier, literal } from './postgres-quote.ts';

/** Signatures, for owners, rights and the undo script. */
export const TWIN_FUNCTIONS = [
  'writ.set_twin_password(text)',
  'writ.retire_twin(boolean)',
] as const;

const DEFINER = 'SECURITY DEFINER SET search_path = pg_catalog, pg_temp';

const MY_TWIN = `SELECT g.twin INTO other FROM writ.gateway_login g WHERE g.name = session_user;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'this login has no twin' USING ERRCODE = '42501';
  END IF;`;

const FUNCTIONS = `CREATE OR REPLACE FUNCTION writ.set_twin_password(verifier text)
RETURNS void LANGUAGE plpgsql ${DEFINER} AS $writ$
DECLARE
  other name;
BEGIN
  IF (verifier ~ '^SCRAM-SHA-256[$]4096:[A-Za-z0-9+/]{22}==[$][A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$') IS NOT TRUE THEN
    RAISE EXCEPTION 'not a SCRAM verifier' USING ERRCODE = '22023';
  END IF;
  ${MY_TWIN}
  EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', other, verifier);
END $writ$;
-- Takes the other login's password once nobody is logged in with it, or by force; a login that is under
-- way may still come through, so it counts as done only when the next call returns 0 too.
-- Returns how many of its backends there were.
CREATE OR REPLACE FUNCTION writ.retire_twin(force boolean)
RETURNS int LANGUAGE plpgsql ${DEFINER} AS $writ$
DECLARE
  other name;
  live int;
BEGIN
  ${MY_TWIN}
  SELECT count(*) INTO live FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid WHERE r.rolname = other;
  IF live > 0 AND force IS NOT TRUE THEN
    RETURN live;
  END IF;
  EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', other);
  PERFORM pg_terminate_backend(a.pid, 2000)
    FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid WHERE r.rolname = other;
  RETURN live;
END $writ$;`;

export interface TwinInit {
  readonly login: string;
  /** Undefined where the login's password is not rotated: a twin of a former plan goes. */
  readonly twin: string | undefined;
  /** The functions that the login may call. */
  readonly functions: readonly string[];
  readonly database: string;
}

/** To be run after the login has its own rights. */
export function twinSql(init: TwinInit): string {
  return init.twin === undefined ? withoutTwin(init.login) : withTwin({ ...init, twin: init.twin });
}

function withTwin({
  login,
  twin,
  functions,
  database,
}: TwinInit & { readonly twin: string }): string {
  const user = identifier(twin);
  return `DO $writ$
BEGIN
  IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = ${literal(twin)}
    AND (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
      OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid)))
  THEN
    RAISE EXCEPTION 'role % has attributes or memberships: a gateway must log in as a role without', ${literal(twin)};
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ${literal(twin)}) THEN
    CREATE ROLE ${user} NOLOGIN;
    INSERT INTO writ.changed VALUES ('login ' || ${literal(twin)}) ON CONFLICT DO NOTHING;
  END IF;
  IF current_setting('server_version_num')::int >= 160000 THEN
    EXECUTE ${literal(`GRANT ${identifier(login)}, ${user} TO writ_admin WITH ADMIN TRUE, INHERIT FALSE, SET FALSE`)};
  END IF;
  IF NOT has_database_privilege(${literal(twin)}, current_database(), 'CONNECT') THEN
    GRANT CONNECT ON DATABASE ${identifier(database)} TO ${user};
    INSERT INTO writ.changed VALUES ('connect twin') ON CONFLICT DO NOTHING;
  END IF;
END $writ$;
CREATE TABLE IF NOT EXISTS writ.gateway_login (name name PRIMARY KEY, twin name NOT NULL);
REVOKE ALL ON writ.gateway_login FROM PUBLIC;
GRANT SELECT ON writ.gateway_login TO writ_admin;
DELETE FROM writ.gateway_login;
INSERT INTO writ.gateway_login VALUES (${literal(login)}, ${literal(twin)}), (${literal(twin)}, ${literal(login)});
${FUNCTIONS}
${TWIN_FUNCTIONS.map(
  (signature) => `ALTER FUNCTION ${signature} OWNER TO writ_admin;
REVOKE ALL ON FUNCTION ${signature} FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ${signature} TO ${identifier(login)}, ${user};`,
).join('\n')}
GRANT USAGE ON SCHEMA writ TO ${user};
${functions.map((signature) => `GRANT EXECUTE ON FUNCTION ${signature} TO ${user};`).join('\n')}`;
}

function withoutTwin(login: string): string {
  return `${TWIN_FUNCTIONS.map((signature) => `DROP FUNCTION IF EXISTS ${signature};`).join('\n')}
DO $writ$
DECLARE
  former name;
BEGIN
  IF to_regclass('writ.gateway_login') IS NOT NULL THEN
    FOR former IN SELECT g.name FROM writ.gateway_login g WHERE g.name <> ${literal(login)} LOOP
      EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', former);
    END LOOP;
    DELETE FROM writ.gateway_login;
  END IF;
END $writ$;`;
}

/** For the undo script, before the tables and the schema go. */
export function dropTwinSql(login: string, database: string): string {
  return `${TWIN_FUNCTIONS.map((signature) => `DROP FUNCTION IF EXISTS ${signature};`).join('\n')}
DO $writ$
DECLARE
  former name;
BEGIN
  IF to_regclass('writ.gateway_login') IS NOT NULL THEN
    FOR former IN SELECT g.twin FROM writ.gateway_login g WHERE g.name = ${literal(login)} LOOP
      IF EXISTS (SELECT FROM writ.changed WHERE what = 'connect twin') THEN
        EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM %I', ${literal(database)}, former);
      END IF;
      EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', former);
      EXECUTE format('REVOKE ALL ON SCHEMA writ FROM %I', former);
      EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA writ FROM %I', former);
      IF EXISTS (SELECT FROM writ.changed WHERE what = 'login ' || former) THEN
        PERFORM set_config('writ.twin_made', former, true);
      END IF;
    END LOOP;
    DROP TABLE writ.gateway_login;
  END IF;
END $writ$;`;
}

/** At the undo script's end: the role stays where another database of this server still needs it. */
export const DROP_TWIN_ROLE = `DO $writ$
BEGIN
  IF current_setting('writ.twin_made', true) <> '' THEN
    EXECUTE format('DROP ROLE %I', current_setting('writ.twin_made'));
  END IF;
EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
END $writ$;`;
