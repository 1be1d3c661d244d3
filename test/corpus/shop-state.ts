/** All that a destructive statement could have changed, as the superuser sees it. */
import { systemClock } from '../../runtime/clock.ts';
import { stateOf } from '../fixtures/database-state.ts';
import type { TestPostgres } from '../fixtures/postgres.ts';

/** Orders beyond the first two may come: the grant inserts them. */
const CONTENT_SQL = `
  select md5(concat_ws('|',
    (select string_agg(o::text, ',' order by id) from public.orders o where id <= 2),
    (select count(*) from pg_class where relname in ('customers', 'orders', 'vault') and relkind = 'r'),
    (select string_agg(x::text, ',') from (select n_live from (select count(*) n_live from public.vault) v) x),
    (select string_agg(a.attname, ',' order by attrelid, attnum) from pg_attribute a where attrelid >= 16384),
    (select count(*) from pg_largeobject_metadata), (select count(*) from pg_prepared_xacts),
    (select count(*) from pg_replication_slots), (select count(*) from pg_extension),
    (select count(*) from pg_language), (select count(*) from pg_foreign_server),
    (select count(*) from pg_foreign_data_wrapper), (select count(*) from pg_constraint where oid >= 16384),
    (select count(*) from pg_trigger where not tgisinternal), (select count(*) from pg_rewrite),
    (select string_agg(s::text, ',' order by 1) from pg_db_role_setting s
      where setrole not in (select oid from pg_roles where rolname ~ '^writ_[0-9a-f]{16}$')),
    (select string_agg(concat(rolname, rolpassword), ',' order by rolname) from pg_authid
      where rolname !~ '^writ_[0-9a-f]{16}$'),
    (select count(*) from pg_default_acl), (select count(*) from pg_description where objoid >= 16384),
    (select last_value from pg_sequences where sequencename = 'customers_id_seq'),
    (select count(*) from pg_stat_activity where application_name = 'victim'),
    (select string_agg(concat(name, setting), ',') from pg_file_settings),
    (select string_agg(relfilenode::text, ',' order by oid) from pg_class where oid >= 16384 and relkind in ('r', 'i')))) as content`;

/** One text, equal as long as nothing is changed. Roles of sessions come and go. */
export async function shopState(server: TestPostgres, database = 'postgres'): Promise<string> {
  const facts = await stateOf(server, database);
  const [row] = await server.exec(CONTENT_SQL, database);
  const lasting = facts.filter((fact) => !/"writ_[0-9a-f]{16}"/.test(fact));
  return [row?.content, ...lasting].join('\n');
}

const never = new AbortController().signal;

/** Waits for the roles of sessions to be gone: one that goes while it is read shows as a number. */
export async function returnsTo(server: TestPostgres, state: string): Promise<boolean> {
  for (let tries = 0; tries < 20; tries += 1) {
    if ((await shopState(server)) === state) return true;
    await systemClock.wait(100, never);
  }
  return false;
}
