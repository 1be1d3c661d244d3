/** Rights of a grant that are on no table: functions, sequences, custom settings. */
import type { PostgresRights } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { identifier, literal } from './postgres-quote.ts';

export function otherRights(
  { execute, sequences, settings }: PostgresRights,
  { grant, groupRole }: { readonly grant: string; readonly groupRole: string },
): string[] {
  return [
    ...execute.map((signature) => executeRight(signature, grant, groupRole)),
    ...sequences.map((name) => sequenceRight(name, grant, groupRole)),
    ...Object.keys(settings).map(settingRight),
  ];
}

/** What does not exist is left out with a warning, as a table is. */
function executeRight(signature: string, grant: string, groupRole: string): string {
  const [, schema = '', name = '', types = ''] = /^([^.]+)\.([^(]+)\((.*)\)$/.exec(signature) ?? [];
  const quoted = literal(`${identifier(schema)}.${identifier(name)}(${types})`);
  return `DO $writ$
DECLARE
  granted regprocedure;
BEGIN
  BEGIN
    granted := to_regprocedure(${quoted});
  EXCEPTION WHEN OTHERS THEN
    granted := NULL;
  END;
  IF granted IS NULL THEN
    RAISE WARNING 'grant %: function % does not exist', ${literal(grant)}, ${quoted};
    RETURN;
  END IF;
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO ${groupRole}', ${literal(schema)}::name);
  EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO ${groupRole}', granted);
  IF (SELECT p.prosecdef FROM pg_proc p WHERE p.oid = granted) THEN
    RAISE WARNING 'grant %: function % runs with the rights of its owner', ${literal(grant)}, granted;
  END IF;
END $writ$;`;
}

function sequenceRight(sequence: string, grant: string, groupRole: string): string {
  const [schema = '', name = ''] = sequence.split('.');
  const quoted = literal(`${identifier(schema)}.${identifier(name)}`);
  return `DO $writ$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = to_regclass(${quoted}) AND c.relkind = 'S') THEN
    RAISE WARNING 'grant %: sequence % does not exist', ${literal(grant)}, ${quoted};
    RETURN;
  END IF;
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO ${groupRole}', ${literal(schema)}::name);
  EXECUTE format('GRANT USAGE ON SEQUENCE %s TO ${groupRole}', ${quoted});
END $writ$;`;
}

/** Sessions' roles are made by writ_admin: only with this right may it set them such a setting. */
function settingRight(name: string): string {
  const quoted = name.split('.').map(identifier).join('.');
  return `DO $writ$
BEGIN
  IF NOT has_parameter_privilege('writ_admin', ${literal(name)}, 'SET') THEN
    GRANT SET ON PARAMETER ${quoted} TO writ_admin;
    INSERT INTO writ.changed VALUES (${literal(`parameter ${quoted}`)}) ON CONFLICT DO NOTHING;
  END IF;
END $writ$;`;
}
