/**
 * Ways to change or destroy something that a grant does not give, as they got past gateways that judge
 * statements by their text (facts: Teleport, hoop and others), and past lexers that read a text
 * otherwise than the server. Run by a session that may read `customers` and `orders` and insert orders.
 */
import { type Attempt, extended, simple, started } from './attempt.ts';

const WIPE = 'delete from public.orders';

/** Made by the superuser before the attempts: all but `purge_as_owner` run with the caller's rights. */
export const HELPERS_SQL = `
  create function public.wipe() returns int language plpgsql as $$ begin ${WIPE}; return 1; end $$;
  create function public.wipe_before() returns trigger language plpgsql as $$ begin ${WIPE}; return new; end $$;
  create procedure public.wipe_all() language plpgsql as $$ begin ${WIPE}; end $$;
  create function public.wipe_row(public.orders) returns int language sql as $$ ${WIPE} returning 1 $$;
  create function public.purge_as_owner() returns int language plpgsql security definer
    as $$ begin ${WIPE}; return 1; end $$;
  revoke execute on function public.purge_as_owner() from public;
  create view public.order_notes as select id, note from public.orders;`;

/** A text of which some bytes are no UTF-8. */
const bytes = (...parts: readonly (string | readonly number[])[]): Buffer =>
  Buffer.concat(
    parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))),
  );

/** One literal with standard_conforming_strings, two statements without. */
const ESCAPED_QUOTE = `select 'a\\'' ; ${WIPE}; --'`;
/** In GBK and SJIS the second byte, a backslash, is half of a character. */
const HALF_A_CHARACTER = bytes(`select E'`, [0x95, 0x5c], `'; ${WIPE}; --'`);

/** FunctionCall of PostgreSQL's protocol 3.0, section "Function Call". */
function functionCall(oid: number): Buffer {
  const body = Buffer.alloc(10);
  body.writeInt32BE(oid, 0);
  const message = Buffer.alloc(5);
  message.write('F');
  message.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([message, body]);
}

const PLAIN: readonly Attempt[] = [
  simple('delete', WIPE),
  extended('delete, extended', WIPE),
  simple('update', 'update public.orders set total = 0'),
  simple('update through a view', "update public.order_notes set note = ''"),
  simple('truncate', 'truncate public.orders'),
  simple('truncate cascade', 'truncate public.customers cascade'),
  simple('drop', 'drop table public.orders cascade'),
  simple('drop schema', 'drop schema public cascade'),
  simple('alter', 'alter table public.orders add column x int'),
  simple('behind a read', `select 1; ${WIPE}`),
  simple('in a comment that nests', `select 1 /* /* */ ; ${WIPE} -- */ ; ${WIPE}`),
  simple('behind a comment', `/* select */ ${WIPE}`),
  simple('in a CTE', `with gone as (${WIPE} returning id) select * from gone`),
  extended('in a CTE, extended', `with gone as (${WIPE} returning id) select * from gone`),
  simple('in EXPLAIN ANALYZE', `explain analyze ${WIPE}`),
  simple('in EXPLAIN (ANALYZE)', `explain (analyze true, costs off) ${WIPE}`),
  simple('MERGE', 'merge into public.orders o using (select 1) s on true when matched then delete'),
  simple('COPY of a DELETE', `copy (${WIPE} returning id) to stdout`),
  simple('PREPARE, then EXECUTE', `prepare gone as ${WIPE}`, 'execute gone'),
  simple(
    'ON CONFLICT',
    'insert into public.orders (id, customer_id) values (1, 1) on conflict (id) do update set total = 0',
  ),
  simple('SELECT INTO', 'select * into public.copy_of_orders from public.orders'),
  simple('CREATE TABLE AS', 'create table public.copy_of_orders as select * from public.orders'),
];

/** What a function or another object does when a read touches it. */
const BY_OTHERS: readonly Attempt[] = [
  simple('a DO block', `do $$ begin ${WIPE}; end $$`),
  extended('a DO block, extended', `do $$ begin ${WIPE}; end $$`),
  simple('EXECUTE of pieces', `do $$ begin execute 'del' || 'ete from public.orders'; end $$`),
  simple('DO with a tag', `do language plpgsql $gone$ begin ${WIPE}; end $gone$`),
  simple('a function', 'select public.wipe()'),
  extended('a function, extended', 'select public.wipe()'),
  simple('a function in VALUES', 'values (public.wipe())'),
  simple('a function in ORDER BY', 'select 1 order by public.wipe()'),
  simple('a function in FROM', 'select * from public.wipe()'),
  simple(
    'a function in a default of INSERT',
    'insert into public.orders (customer_id, total) values (1, public.wipe()) returning id',
  ),
  simple('a function of a row', 'select o.wipe_row from public.orders o'),
  simple('a function of the owner', 'select public.purge_as_owner()'),
  simple('CALL', 'call public.wipe_all()'),
  simple(
    'a function of the session',
    `create function pg_temp.gone() returns void language sql as $$ ${WIPE} $$`,
    'select pg_temp.gone()',
  ),
  simple(
    'a rule',
    `create rule gone as on insert to public.orders do instead ${WIPE}`,
    'insert into public.orders (customer_id) values (1)',
  ),
  simple(
    'a trigger',
    'create trigger gone before insert on public.orders execute function public.wipe_before()',
  ),
  simple('a domain with a check', 'create domain gone as int check (public.wipe() = 1)'),
  simple('XML of a query', `select query_to_xml('${WIPE} returning id', true, true, '')`),
  simple('ts_stat', `select * from ts_stat('${WIPE} returning to_tsvector(note)')`),
  simple(
    'ts_rewrite',
    `select ts_rewrite('a'::tsquery, '${WIPE} returning ''a''::tsquery, ''b''::tsquery')`,
  ),
  simple('an identifier in Unicode', `select public.U&"w\\0069pe"()`),
  simple('a dollar tag beyond ASCII', `select $é$ $é$; ${WIPE}; select $é$ $é$`),
];

/** Settings under which the server reads a text otherwise, or acts as somebody else. */
const BY_SETTINGS: readonly Attempt[] = [
  simple(
    'SET of standard_conforming_strings',
    'set standard_conforming_strings = off',
    ESCAPED_QUOTE,
  ),
  simple(
    'set_config of it',
    "select set_config('standard_conforming_strings', 'off', false)",
    ESCAPED_QUOTE,
  ),
  started('it at start-up', [['standard_conforming_strings', 'off']], ESCAPED_QUOTE),
  started('it in options', [['options', '-c standard_conforming_strings=off']], ESCAPED_QUOTE),
  simple('GBK', "set client_encoding = 'GBK'", HALF_A_CHARACTER),
  started('SJIS at start-up', [['client_encoding', 'SJIS']], HALF_A_CHARACTER),
  simple('SET NAMES', "set names 'GBK'", HALF_A_CHARACTER),
  simple('backslash_quote', 'set backslash_quote = on', `select E'\\'; ${WIPE}; --'`),
  simple('SET ROLE', 'set role postgres', WIPE),
  simple('SET LOCAL ROLE', `begin; set local role postgres; ${WIPE}; commit`),
  simple('SET SESSION AUTHORIZATION', 'set session authorization postgres', WIPE),
  simple('set_config of role', "select set_config('role', 'postgres', false)", WIPE),
  started('role in options', [['options', '-c role=postgres']], WIPE),
  simple(
    'pg_settings',
    "update pg_settings set setting = 'off' where name = 'standard_conforming_strings'",
    ESCAPED_QUOTE,
  ),
];

const OF_THE_SERVER: readonly Attempt[] = [
  simple('a password of its own', "alter role current_user password 'known'"),
  simple('a role', 'create role gone superuser login'),
  simple('a grant', 'grant delete on public.orders to public'),
  simple('default rights', 'alter default privileges grant all on tables to public'),
  simple('a setting of the server', "alter system set log_statement = 'none'"),
  simple(
    'a setting of the database',
    'alter database postgres set default_transaction_read_only = on',
  ),
  simple('a large object', "select lo_from_bytea(0, 'x')"),
  simple('an extension', 'create extension file_fdw'),
  simple('a language', 'create language gone handler plpgsql_call_handler'),
  simple('a library', "load '/tmp/gone.so'"),
  simple(
    'the other backends',
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'victim'`,
  ),
  simple('a replication slot', "select pg_create_physical_replication_slot('gone')"),
  simple('a lock', 'lock table public.orders in access exclusive mode'),
  simple(
    'a prepared transaction',
    "begin; insert into public.orders (id, customer_id) values (99, 1); prepare transaction 'gone'",
  ),
  simple('a sequence', "select setval('public.customers_id_seq', 1)"),
  simple('a comment on a table', "comment on table public.orders is 'gone'"),
  simple('REINDEX', 'reindex table public.orders'),
  simple(
    'a foreign server',
    'create foreign data wrapper gone; create server gone foreign data wrapper gone',
  ),
  started('replication', [['replication', 'database']], 'IDENTIFY_SYSTEM'),
];

/**
 * What changes nothing either where a superuser runs it: texts that every reading takes for the same,
 * statements that the server runs read-only, and what ends with its session. They count as refused or not.
 */
export const WITHOUT_EFFECT: readonly string[] = [
  'backslash_quote',
  'XML of a query',
  'ts_stat',
  'ts_rewrite',
  'a library',
  'a lock',
  'replication',
];

/**
 * @param canary a file that a command on the server would make
 * @param wipeOid of public.wipe()
 */
export function destructiveAttempts(canary: string, wipeOid: number): readonly Attempt[] {
  return [
    ...PLAIN,
    ...BY_OTHERS,
    ...BY_SETTINGS,
    ...OF_THE_SERVER,
    simple('COPY to a program', `copy (select 1) to program 'touch ${canary}'`),
    extended('COPY to a program, extended', `copy (select 1) to program 'touch ${canary}'`),
    simple('COPY from a program', `copy public.orders from program 'touch ${canary}'`),
    simple('COPY to a file', `copy public.orders to '${canary}'`),
    simple(
      'a large object to a file',
      "select lo_from_bytea(4711, 'x')",
      `select lo_export(4711, '${canary}')`,
    ),
    { name: 'FunctionCall', startup: [], steps: [{ kind: 'raw', bytes: functionCall(wipeOid) }] },
  ];
}
