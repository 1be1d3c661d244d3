/**
 * The role that owns what a grant's sessions create, so that it outlives them (threats P6). Its
 * gateway starts sessions with it as their role (a definer function cannot set one for them). It is a member of the grant's group alone, and the plan aborts if it
 * holds anything else.
 */
import type { DdlOwner } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { identifier, literal } from './postgres-quote.ts';

/** Makes the owner where there is none, and gives it the grant's rights and its schemas. */
export function ddlOwnerSql({ role, schemas }: DdlOwner, groupRole: string): string {
  const owner = identifier(role);
  return `DO $writ$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ${literal(role)}) THEN
    CREATE ROLE ${owner} NOLOGIN;
    INSERT INTO writ.changed VALUES ('owner ' || ${literal(role)}) ON CONFLICT DO NOTHING;
  END IF;
  IF current_setting('server_version_num')::int >= 160000 THEN
    EXECUTE ${literal(`GRANT ${groupRole} TO ${owner} WITH INHERIT TRUE, SET FALSE`)};
    EXECUTE ${literal(`GRANT ${owner} TO writ_admin WITH ADMIN TRUE, INHERIT FALSE, SET FALSE`)};
  ELSE
    GRANT ${groupRole} TO ${owner};
  END IF;
END $writ$;
-- A definer function of its would lend the grant's rights to every session.
ALTER DEFAULT PRIVILEGES FOR ROLE ${owner} REVOKE EXECUTE ON ROUTINES FROM PUBLIC;
${schemas.map((schema) => `GRANT USAGE, CREATE ON SCHEMA ${identifier(schema)} TO ${owner};`).join('\n')}
${checkOwner(role, groupRole, schemas)}`;
}

/** Aborts the plan if the owner is, has or owns more than the grant gives. */
function checkOwner(role: string, groupRole: string, schemas: readonly string[]): string {
  const within = `ARRAY[${schemas.map(literal).join(', ')}]::name[]`;
  return `DO $writ$
DECLARE
  owner oid := (SELECT oid FROM pg_roles WHERE rolname = ${literal(role)});
  more text;
BEGIN
  SELECT string_agg(x.what, ', ') INTO more FROM (
    SELECT 'its attributes' AS what FROM pg_roles r
      WHERE r.oid = owner AND (r.rolcanlogin OR r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls)
    UNION ALL SELECT 'membership in ' || m.roleid::regrole FROM pg_auth_members m
      WHERE m.member = owner AND m.roleid <> ${literal(groupRole)}::regrole
    UNION ALL SELECT 'its member ' || m.member::regrole FROM pg_auth_members m
      WHERE m.roleid = owner AND m.member::regrole::text !~ '^writ_([0-9a-f]{16}|admin)$' AND m.member <> current_user::regrole
    UNION ALL SELECT 'owning ' || c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relowner = owner AND n.nspname <> ALL (${within}) AND n.nspname !~ '^pg_(toast|temp)'
    UNION ALL SELECT 'owning schema ' || n.nspname FROM pg_namespace n WHERE n.nspowner = owner
    UNION ALL SELECT 'rights on ' || c.oid::regclass FROM pg_class c, aclexplode(c.relacl) a
      WHERE a.grantee = owner AND c.relowner <> owner
    UNION ALL SELECT 'rights on columns of ' || t.attrelid::regclass FROM pg_attribute t
      JOIN pg_class c ON c.oid = t.attrelid, aclexplode(t.attacl) a WHERE a.grantee = owner AND c.relowner <> owner
    UNION ALL SELECT 'rights on ' || p.oid::regprocedure FROM pg_proc p, aclexplode(p.proacl) a
      WHERE a.grantee = owner AND p.proowner <> owner
    UNION ALL SELECT 'rights on schema ' || n.nspname FROM pg_namespace n, aclexplode(n.nspacl) a
      WHERE a.grantee = owner AND n.nspname <> ALL (${within})
    UNION ALL SELECT 'rights on database ' || d.datname FROM pg_database d, aclexplode(d.datacl) a WHERE a.grantee = owner
  ) x;
  IF more IS NOT NULL THEN
    RAISE EXCEPTION 'role % would give a grant more than it names: %', ${literal(role)}, more;
  END IF;
END $writ$;`;
}

/** Takes all of it from the owners of former grants; what they own stays theirs. */
export const TAKE_BACK_OWNERS = `DO $writ$
DECLARE
  former name;
  held record;
BEGIN
  FOR former IN SELECT DISTINCT g.ddl_owner FROM writ.grant_group g JOIN pg_roles r ON r.rolname = g.ddl_owner LOOP
    FOR held IN SELECT m.member::regrole AS member FROM pg_auth_members m
      WHERE m.roleid = quote_ident(former)::regrole AND m.member::regrole::text = 'writ_admin'
    LOOP
      EXECUTE format('REVOKE %I FROM %s CASCADE', former, held.member);
    END LOOP;
    FOR held IN SELECT m.member::regrole AS member FROM pg_auth_members m
      WHERE m.roleid = quote_ident(former)::regrole AND m.member::regrole::text ~ '^writ_[0-9a-f]{16}$'
    LOOP
      EXECUTE format('REVOKE %I FROM %s', former, held.member);
    END LOOP;
    FOR held IN SELECT m.roleid::regrole AS role FROM pg_auth_members m
      WHERE m.member = quote_ident(former)::regrole AND m.roleid::regrole::text ~ '^writ_g_'
    LOOP
      EXECUTE format('REVOKE %s FROM %I', held.role, former);
    END LOOP;
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT EXECUTE ON ROUTINES TO PUBLIC', former);
    FOR held IN SELECT n.nspname AS name FROM pg_namespace n, aclexplode(n.nspacl) a
      WHERE a.grantee = quote_ident(former)::regrole AND n.nspowner <> a.grantee
    LOOP
      EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %I', held.name, former);
    END LOOP;
  END LOOP;
END $writ$;`;
