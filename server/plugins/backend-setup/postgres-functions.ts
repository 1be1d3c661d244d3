/**
 * The schema `writ` in a backend: what a gateway's login may do there, and no more (threats P1).
 *
 * The login can call seven functions. They run as `writ_admin`, which nobody can log in as or become,
 * make and end roles named `writ_<16 hex>` alone, and give them the groups that an administrator
 * listed in `writ.grant_group`. Who steals the login can do the same: it reads what those groups see.
 *
 * Bodies hold no backslash: standard_conforming_strings is the caller's.
 */

import { DRIFT_SQL } from './postgres-drift.ts';
import { OWNED_SEQUENCE_TABLE } from './postgres-sequences.ts';

/** Three version 4 UUIDs hold 366 random bits; SHA-256 makes 256 of them. */
const MASK_KEY = `DO $writ$
DECLARE
  key bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
  inner_pad bytea := decode(repeat('36', 64), 'hex');
  outer_pad bytea := decode(repeat('5c', 64), 'hex');
BEGIN
  IF NOT EXISTS (SELECT FROM writ.mask_key) THEN
    FOR place IN 0..31 LOOP
      inner_pad := set_byte(inner_pad, place, get_byte(inner_pad, place) # get_byte(key, place));
      outer_pad := set_byte(outer_pad, place, get_byte(outer_pad, place) # get_byte(key, place));
    END LOOP;
    INSERT INTO writ.mask_key VALUES (inner_pad, outer_pad);
  END IF;
END $writ$;`;

/** Tables; owned by whoever runs the plan but for the leases, which the functions write. */
export const TABLES_SQL = `CREATE TABLE IF NOT EXISTS writ.grant_group (
  name name PRIMARY KEY,
  view_owner name NOT NULL,
  view_schema name NOT NULL,
  identity text NOT NULL,
  search_path name[] NOT NULL
);
CREATE TABLE IF NOT EXISTS writ.session (
  role name PRIMARY KEY,
  group_name name NOT NULL,
  gateway text NOT NULL,
  lease_until timestamptz NOT NULL
);
ALTER TABLE writ.grant_group ADD COLUMN IF NOT EXISTS ddl_owner name,
  ADD COLUMN IF NOT EXISTS settings jsonb NOT NULL DEFAULT '{}';
-- What this plan changed that was not its own, so that the undo script gives back just that.
CREATE TABLE IF NOT EXISTS writ.changed (what text PRIMARY KEY);
-- Columns that the last plan knew, and all else that it made: for the next plan and for writ.drift().
CREATE TABLE IF NOT EXISTS writ.known_column (
  schema name, name name, column_name name, type text NOT NULL, PRIMARY KEY (schema, name, column_name)
);
CREATE TABLE IF NOT EXISTS writ.made (fact text PRIMARY KEY);
-- The key of masks that hash, padded as RFC 2104 says; views' owners alone read it.
CREATE TABLE IF NOT EXISTS writ.mask_key (inner_pad bytea NOT NULL, outer_pad bytea NOT NULL);
${OWNED_SEQUENCE_TABLE}
ALTER TABLE writ.session OWNER TO writ_admin;
REVOKE ALL ON writ.grant_group, writ.session, writ.changed, writ.known_column, writ.made, writ.mask_key, writ.owned_sequence FROM PUBLIC;
GRANT SELECT ON writ.grant_group TO writ_admin;
${MASK_KEY}`;

/** Tables, for the undo script. */
export const TABLES = [
  'session',
  'grant_group',
  'changed',
  'known_column',
  'made',
  'mask_key',
  'owned_sequence',
].map((name) => `writ.${name}`);

/** Signatures, for owners, rights and the undo script. */
export const GATEWAY_FUNCTIONS = [
  'writ.open_session(name, text, name, timestamptz, text)',
  'writ.seal_session(name)',
  'writ.close_session(name)',
  'writ.list_sessions()',
  'writ.renew_leases(text, timestamptz)',
  'writ.end_session(name)',
  'writ.release_session(name)',
] as const;

export const IDENTITY_FUNCTION = 'writ.identity()';

const DEFINER = 'SECURITY DEFINER SET search_path = pg_catalog, pg_temp';

const OPEN_SESSION = `-- A role for one session: it can log in once, within a minute and its lease, until it is sealed (threats P5).
CREATE OR REPLACE FUNCTION writ.open_session(
  role_name name, verifier text, group_name name, lease_until timestamptz, gateway text
) RETURNS void LANGUAGE plpgsql ${DEFINER} AS $writ$
DECLARE
  path text;
  owner name;
  setting record;
  login_until text := to_char(least(clock_timestamp() + interval '1 minute', lease_until) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || '+00';
BEGIN
  IF (role_name ~ '^writ_[0-9a-f]{16}$') IS NOT TRUE THEN
    RAISE EXCEPTION 'not the name of a session role' USING ERRCODE = '22023';
  END IF;
  IF (verifier ~ '^SCRAM-SHA-256[$](1|4096):[A-Za-z0-9+/]{22}==[$][A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$') IS NOT TRUE THEN
    RAISE EXCEPTION 'not a SCRAM verifier' USING ERRCODE = '22023';
  END IF;
  IF (length(gateway) BETWEEN 1 AND 2048) IS NOT TRUE THEN
    RAISE EXCEPTION 'not the name of a gateway' USING ERRCODE = '22023';
  END IF;
  SELECT string_agg(quote_ident(p.part), ', ' ORDER BY p.place) INTO path
    FROM writ.grant_group g, unnest(g.search_path) WITH ORDINALITY AS p(part, place)
    WHERE g.name = open_session.group_name;
  IF path IS NULL THEN
    RAISE EXCEPTION 'no such group' USING ERRCODE = '42704';
  END IF;
  SELECT g.ddl_owner INTO owner FROM writ.grant_group g WHERE g.name = open_session.group_name;
  INSERT INTO writ.session (role, group_name, gateway, lease_until)
    VALUES (role_name, group_name, gateway, least(lease_until, clock_timestamp() + interval '1 hour'));
  EXECUTE format('CREATE ROLE %I LOGIN PASSWORD %L VALID UNTIL %L CONNECTION LIMIT 1',
    role_name, verifier, login_until);
  EXECUTE format('ALTER ROLE %I SET search_path = %s', role_name, path);
  IF current_setting('server_version_num')::int >= 160000 THEN
    EXECUTE format('GRANT %I TO %I WITH INHERIT TRUE, SET FALSE', group_name, role_name);
  ELSE
    EXECUTE format('GRANT %I TO %I', group_name, role_name);
  END IF;
  IF owner IS NOT NULL THEN
    IF current_setting('server_version_num')::int >= 160000 THEN
      EXECUTE format('GRANT %I TO %I WITH INHERIT FALSE, SET TRUE', owner, role_name);
    ELSE
      EXECUTE format('GRANT %I TO %I', owner, role_name);
    END IF;
  END IF;
  FOR setting IN SELECT (SELECT string_agg(quote_ident(part), '.') FROM unnest(string_to_array(s.key, '.')) part) AS name, s.value
    FROM writ.grant_group g, jsonb_each_text(g.settings) s WHERE g.name = open_session.group_name
  LOOP
    EXECUTE format('ALTER ROLE %I SET %s = %L', role_name, setting.name, setting.value);
  END LOOP;
END $writ$;`;

const SEAL_SESSION = `-- The session that is logged in lives on; no second login succeeds (threats P5).
CREATE OR REPLACE FUNCTION writ.seal_session(role_name name)
RETURNS void LANGUAGE plpgsql ${DEFINER} AS $writ$
BEGIN
  PERFORM FROM writ.session s WHERE s.role = role_name FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'no such session' USING ERRCODE = '42704';
  END IF;
  EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', role_name);
END $writ$;`;

/** A role counts as a session of this database if it has a lease or one of its groups. */
const MEMBER_OF_A_GROUP = `EXISTS (
      SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
        JOIN writ.grant_group w ON w.name = g.rolname
      WHERE m.member = r.oid)`;

const CLOSE_SESSION = `-- Ends the session's backends and its role, with all that it owns: never REASSIGN (threats P6).
-- Returns how many backends it ended; raises 55006 if one does not end within two seconds.
CREATE OR REPLACE FUNCTION writ.close_session(role_name name)
RETURNS int LANGUAGE plpgsql ${DEFINER} AS $writ$
DECLARE
  role_oid oid;
  backend int;
  ended int := 0;
BEGIN
  IF (role_name ~ '^writ_[0-9a-f]{16}$') IS NOT TRUE THEN
    RAISE EXCEPTION 'not the name of a session role' USING ERRCODE = '22023';
  END IF;
  PERFORM FROM writ.session s WHERE s.role = role_name FOR UPDATE;
  SELECT r.oid INTO role_oid FROM pg_roles r WHERE r.rolname = role_name AND (FOUND OR ${MEMBER_OF_A_GROUP});
  IF role_oid IS NOT NULL THEN
    EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', role_name);
    FOR backend IN SELECT a.pid FROM pg_stat_activity a WHERE a.usesysid = role_oid LOOP
      PERFORM pg_terminate_backend(backend);
      ended := ended + 1;
    END LOOP;
    FOR attempt IN 1..200 LOOP
      PERFORM pg_stat_clear_snapshot();
      EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.usesysid = role_oid);
      IF attempt = 200 THEN
        RAISE EXCEPTION 'a backend of the session has not ended yet' USING ERRCODE = '55006';
      END IF;
      PERFORM pg_sleep(0.01);
    END LOOP;
    IF current_setting('server_version_num')::int >= 160000 THEN
      EXECUTE format('GRANT %I TO writ_admin WITH INHERIT TRUE, SET TRUE', role_name);
    ELSE
      EXECUTE format('GRANT %I TO writ_admin', role_name);
    END IF;
    EXECUTE format('DROP OWNED BY %I', role_name);
    EXECUTE format('DROP ROLE %I', role_name);
  END IF;
  DELETE FROM writ.session s WHERE s.role = role_name;
  RETURN ended;
END $writ$;`;

const LIST_SESSIONS = `-- All session roles of this database; one that lost its lease row counts as run out.
CREATE OR REPLACE FUNCTION writ.list_sessions()
RETURNS TABLE (role name, gateway text, lease_until timestamptz, live boolean)
LANGUAGE sql STABLE ${DEFINER} AS $writ$
  SELECT s.role, s.gateway, s.lease_until, s.role IN (SELECT a.usename FROM pg_stat_activity a WHERE a.usename IS NOT NULL)
    FROM writ.session s
  UNION ALL
  SELECT r.rolname, '', '-infinity', r.rolname IN (SELECT a.usename FROM pg_stat_activity a WHERE a.usename IS NOT NULL)
    FROM pg_roles r
    WHERE r.rolname ~ '^writ_[0-9a-f]{16}$' AND ${MEMBER_OF_A_GROUP}
      AND NOT EXISTS (SELECT FROM writ.session s WHERE s.role = r.rolname)
$writ$;`;

const RENEW_LEASES = `CREATE OR REPLACE FUNCTION writ.renew_leases(gateway text, until timestamptz)
RETURNS void LANGUAGE sql ${DEFINER} AS $writ$
  UPDATE writ.session s SET lease_until = least(renew_leases.until, clock_timestamp() + interval '1 hour')
    WHERE s.gateway = renew_leases.gateway
$writ$;`;

const END_SESSION = `-- Ends the session's backends here and writes nothing, so that a standby can run it (threats P14).
-- Returns how many it ended; raises 55006 if one does not end within two seconds.
CREATE OR REPLACE FUNCTION writ.end_session(role_name name)
RETURNS int LANGUAGE plpgsql ${DEFINER} AS $writ$
DECLARE
  role_oid oid;
  backend int;
  ended int := 0;
BEGIN
  IF (role_name ~ '^writ_[0-9a-f]{16}$') IS NOT TRUE THEN
    RAISE EXCEPTION 'not the name of a session role' USING ERRCODE = '22023';
  END IF;
  SELECT r.oid INTO role_oid FROM pg_roles r WHERE r.rolname = role_name;
  FOR backend IN SELECT a.pid FROM pg_stat_activity a WHERE a.usesysid = role_oid LOOP
    PERFORM pg_terminate_backend(backend);
    ended := ended + 1;
  END LOOP;
  FOR attempt IN 1..200 LOOP
    PERFORM pg_stat_clear_snapshot();
    EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.usesysid = role_oid);
    IF attempt = 200 THEN
      RAISE EXCEPTION 'a backend of the session has not ended yet' USING ERRCODE = '55006';
    END IF;
    PERFORM pg_sleep(0.01);
  END LOOP;
  RETURN ended;
END $writ$;`;

const RELEASE_SESSION = `-- Drops what a session role of another database of this server owns here (threats P6).
CREATE OR REPLACE FUNCTION writ.release_session(role_name name)
RETURNS void LANGUAGE plpgsql ${DEFINER} AS $writ$
BEGIN
  IF (role_name ~ '^writ_[0-9a-f]{16}$') IS NOT TRUE THEN
    RAISE EXCEPTION 'not the name of a session role' USING ERRCODE = '22023';
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role_name) THEN
    RETURN;
  END IF;
  IF current_setting('server_version_num')::int >= 160000 THEN
    EXECUTE format('GRANT %I TO writ_admin WITH INHERIT TRUE, SET TRUE', role_name);
  ELSE
    EXECUTE format('GRANT %I TO writ_admin', role_name);
  END IF;
  EXECUTE format('DROP OWNED BY %I', role_name);
  EXECUTE format('REVOKE %I FROM writ_admin GRANTED BY writ_admin', role_name);
END $writ$;`;

const IDENTITY = `-- The SPIFFE ID behind the session, for row policies and column defaults; NULL for all other logins.
-- It cannot be spoofed: session_user changes only with a login, and the group's identity is the administrator's.
CREATE OR REPLACE FUNCTION writ.identity()
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE ${DEFINER} AS $writ$
  SELECT g.identity FROM writ.session s JOIN writ.grant_group g ON g.name = s.group_name
    WHERE s.role = session_user
$writ$;`;

/** The functions, their owner and their rights but for the login's. */
export const FUNCTIONS_SQL = [
  OPEN_SESSION,
  SEAL_SESSION,
  CLOSE_SESSION,
  LIST_SESSIONS,
  RENEW_LEASES,
  END_SESSION,
  RELEASE_SESSION,
  IDENTITY,
  ...[...GATEWAY_FUNCTIONS, IDENTITY_FUNCTION].map(
    (signature) => `ALTER FUNCTION ${signature} OWNER TO writ_admin;`,
  ),
  'REVOKE ALL ON ALL FUNCTIONS IN SCHEMA writ FROM PUBLIC;',
  `GRANT EXECUTE ON FUNCTION ${IDENTITY_FUNCTION} TO PUBLIC;`,
  DRIFT_SQL,
].join('\n');
