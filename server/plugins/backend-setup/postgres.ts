/**
 * Plans the rights of a PostgreSQL backend (15 and later): the functions that a gateway's login may
 * call, and for each grant a group role with exactly the grant's rights, reading classified columns
 * only through masked views. A database administrator reads the plan and runs it as a superuser, by
 * psql -v ON_ERROR_STOP=1 or any driver; the server itself never does.
 *
 * Views are no security barrier: they hide columns, not rows, and a barrier would cost indexes
 * (threats P7). Their owner is a role per grant without BYPASSRLS, so row security holds (P8). Role
 * names are hashes and carry no comment (P13).
 */
import type { Catalog } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import {
  type Backend,
  Layout,
  type PostgresBackend,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { twinLogin } from '../../governance/twin-login.ts';
import { secretOf } from '../../secrets/backends-naming.ts';
import type { BackendSetup, BackendSetupPlan, BackendSetupRequest } from './backend-setup.ts';
import { postconditions, preconditions, publicRights } from './postgres-checks.ts';
import { classify } from './postgres-classes.ts';
import { TAKE_BACK_OWNERS } from './postgres-ddl.ts';
import { REMEMBER_SQL } from './postgres-drift.ts';
import { FUNCTIONS_SQL, GATEWAY_FUNCTIONS, TABLES_SQL } from './postgres-functions.ts';
import { type GrantPlan, planGrant } from './postgres-grant.ts';
import { knownColumns, knownTables, rememberColumns } from './postgres-known.ts';
import { indexTables, inPlaceOwner, MOVE_HOME } from './postgres-layout.ts';
import { comment, identifier, literal } from './postgres-quote.ts';
import { sharedViews } from './postgres-shared-views.ts';
import { twinSql } from './postgres-twin.ts';
import { undoSql } from './postgres-undo.ts';

const OLDEST_VERSION = 150_000;

/** The BackendSetup for PostgreSQL. */
export function postgresBackendSetup(): BackendSetup {
  return { type: 'postgres', plan };
}

function plan(request: BackendSetupRequest): BackendSetupPlan {
  const { backend, catalog } = request;
  if (backend.type.case !== 'postgres') throw new Error(`${backend.name} is no PostgreSQL backend`);
  const settings = backend.type.value;
  const warnings = new Set<string>();
  const warn = (text: string) => warnings.add(text);
  warnOfCatalog(catalog, settings, warn);
  const tables = indexTables(catalog);
  const classified = classify({ ...request, backend: backend.name, tables }, warn);
  const known = knownColumns(catalog, tables, classified, warn);
  const { masked } = classified;
  const database = databaseOfPlan(catalog, settings);
  const place = database === '' ? [backend.name] : [backend.name, catalog.database];
  const sharedOwner = settings.layout === Layout.IN_PLACE ? inPlaceOwner(place) : undefined;
  const context = { database: catalog.database, tables, known, masked, sharedOwner, warn };
  const grants = request.grants.flatMap((grant) =>
    grant.backend === backend.name &&
    grant.rights.case === 'postgres' &&
    grant.rights.value.database === database
      ? [planGrant(grant, grant.rights.value, context)]
      : [],
  );
  const shared = sharedViews(grants, context);
  const sql = [
    ...heading(`Sets up Writ for backend ${backend.name}.`, catalog),
    preconditions(catalog.database, settings.loginUser),
    rolesSql(settings.loginUser),
    'CREATE SCHEMA IF NOT EXISTS writ;',
    'REVOKE ALL ON SCHEMA writ FROM PUBLIC;',
    'GRANT USAGE ON SCHEMA writ TO writ_admin;',
    TABLES_SQL,
    loginMadeHere(settings.loginUser),
    FUNCTIONS_SQL,
    loginRights(settings.loginUser, catalog.database),
    twinSql({
      ...{ login: settings.loginUser, twin: twinOf(backend), database: catalog.database },
      functions: GATEWAY_FUNCTIONS,
    }),
    publicRights(catalog.database),
    takeBack(grants),
    MOVE_HOME,
    ...grantRoles(grants),
    ...grants.map((grant) => grant.sql),
    shared.sql,
    postconditions({
      tables: shared.tables,
      classified: masked,
      direct: grants.flatMap(({ direct }) => direct),
    }),
    rememberColumns(knownTables(catalog, grants), tables, known),
    REMEMBER_SQL,
    'COMMIT;',
    '',
  ].join('\n');
  const undo = [
    ...heading(`Takes Writ out of backend ${backend.name}; ends its sessions.`, catalog),
    undoSql(catalog.database, settings.loginUser),
    'COMMIT;',
    '',
  ].join('\n');
  return { sql, undoSql: undo, warnings: [...warnings] };
}

/** Of a login whose password is a secret of the server's vault, and can be rotated. */
function twinOf(backend: Backend): string | undefined {
  if (backend.type.case !== 'postgres' || secretOf(backend) === undefined) return undefined;
  return twinLogin(backend.type.value);
}

function warnOfCatalog(
  catalog: Catalog,
  settings: PostgresBackend,
  warn: (text: string) => void,
): void {
  if (catalog.serverVersion < OLDEST_VERSION)
    warn('PostgreSQL 15 is the oldest that Writ supports');
  const named = [settings.database, ...Object.values(settings.databases)];
  if (!named.includes(catalog.database)) {
    warn(`the catalog is of database ${catalog.database}, the backend names ${named.join(', ')}`);
  }
  warn(
    'PUBLIC loses the right to temporary tables in this database; the undo script gives it back',
  );
  if (!catalog.loginExists) {
    warn(
      `set the password of ${settings.loginUser} once the plan has run; nobody can use it before`,
    );
  }
}

/** As grants name the database that the plan is for; empty: the backend's own. */
function databaseOfPlan({ database }: Catalog, settings: PostgresBackend): string {
  if (database === settings.database) return '';
  return Object.entries(settings.databases).find(([, real]) => real === database)?.[0] ?? '';
}

function heading(purpose: string, catalog: Catalog): string[] {
  return [
    comment(purpose),
    comment(
      `For database ${catalog.database}; run as a superuser: psql -v ON_ERROR_STOP=1 -f FILE`,
    ),
    'BEGIN;',
    // Names of built-ins mean the built-ins, whatever others have created in this database.
    'SET LOCAL search_path = pg_catalog, pg_temp;',
    'SET LOCAL client_min_messages = warning;',
    "SET LOCAL lock_timeout = '10s';",
  ];
}

function rolesSql(login: string): string {
  return `DO $writ$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'writ_admin') THEN
    CREATE ROLE writ_admin;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ${literal(login)}) THEN
    CREATE ROLE ${identifier(login)} NOLOGIN;
    PERFORM set_config('writ.login_made', 'yes', true);
  END IF;
END $writ$;
ALTER ROLE writ_admin NOLOGIN NOSUPERUSER CREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS PASSWORD NULL;
GRANT pg_signal_backend TO writ_admin;
${comment(`A new ${login} cannot log in. In psql: ALTER ROLE ${identifier(login)} LOGIN; then \\password ${login}`)}`;
}

/** Told to the undo script, which drops the login only if the plan made it. */
function loginMadeHere(login: string): string {
  return `INSERT INTO writ.changed SELECT 'login ' || ${literal(login)}
  WHERE current_setting('writ.login_made', true) = 'yes' ON CONFLICT DO NOTHING;`;
}

function loginRights(login: string, database: string): string {
  const user = identifier(login);
  return `DO $writ$
DECLARE
  former regrole;
BEGIN
  FOR former IN SELECT a.grantee FROM pg_namespace n, aclexplode(n.nspacl) a
    WHERE n.nspname = 'writ' AND a.grantee NOT IN (0, n.nspowner, 'writ_admin'::regrole)
  LOOP
    EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA writ FROM %s', former);
    EXECUTE format('REVOKE ALL ON SCHEMA writ FROM %s', former);
  END LOOP;
  IF NOT has_database_privilege(${literal(login)}, current_database(), 'CONNECT') THEN
    GRANT CONNECT ON DATABASE ${identifier(database)} TO ${user};
    INSERT INTO writ.changed VALUES ('connect') ON CONFLICT DO NOTHING;
  END IF;
END $writ$;
GRANT USAGE ON SCHEMA writ TO ${user};
${GATEWAY_FUNCTIONS.map((signature) => `GRANT EXECUTE ON FUNCTION ${signature} TO ${user};`).join('\n')}`;
}

/** What former runs gave goes first, so that a grant that shrank or went leaves nothing behind. */
function takeBack(grants: readonly GrantPlan[]): string {
  const kept = grants.flatMap(({ groupRole, viewOwner }) => [groupRole, viewOwner]);
  const list = kept.map(literal).join(', ');
  return `${TAKE_BACK_OWNERS}
DO $writ$
DECLARE
  former name;
BEGIN
  FOR former IN SELECT r.rolname FROM pg_roles r
    WHERE r.rolname IN (SELECT name FROM writ.grant_group UNION SELECT view_owner FROM writ.grant_group)
      OR r.rolname = ANY (ARRAY[${list}]::name[])
  LOOP
    EXECUTE format('DROP OWNED BY %I', former);
    IF former <> ALL (ARRAY[${list}]::name[]) THEN
      EXECUTE format('DROP ROLE %I', former);
    END IF;
  END LOOP;
  DELETE FROM writ.grant_group;
END $writ$;`;
}

function grantRoles(grants: readonly GrantPlan[]): string[] {
  const groups = grants.map(({ groupRole }) => groupRole);
  const owners = new Set(grants.map(({ viewOwner }) => viewOwner));
  const roles = [...groups, ...owners].map(
    (role) => `DO $writ$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ${literal(role)}) THEN
    CREATE ROLE ${role};
  END IF;
END $writ$;
ALTER ROLE ${role} NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS PASSWORD NULL;`,
  );
  // Before 16 CREATEROLE itself gives memberships, and ADMIN would bring the group's rights with it.
  const admin = groups.map(
    (group) => `DO $writ$
BEGIN
  IF current_setting('server_version_num')::int >= 160000 THEN
    EXECUTE 'GRANT ${group} TO writ_admin WITH ADMIN TRUE, INHERIT FALSE, SET FALSE';
  END IF;
END $writ$;`,
  );
  return [...roles, ...admin];
}
