/** Attempts by messages, formats, phases and settings of the protocol, for `leaks.ts`. */
import {
  cstring,
  int16,
  int32,
  message,
} from '../../gateway/plugins/backend/postgres/wire/message-body.ts';
import { type Attempt, extended, simple, started } from './attempt.ts';

const ALL = 'select id, ssn, email, card, api_key, born, seen, notes from public.customers';

const binary = (name: string, sql: string): Attempt => ({
  name,
  startup: [],
  steps: [{ kind: 'extended', sql, binary: true }],
});

const prepared = (name: string, sql: string, described: boolean): Attempt => ({
  name,
  startup: [],
  steps: [{ kind: 'prepared', sql, described }],
});

const bind = (portal: string, statement: string) =>
  message('B', cstring(portal), cstring(statement), int16(0), int16(0), int16(0));
const parse = (name: string, sql: string) => message('P', cstring(name), cstring(sql), int16(0));
const execute = (portal: string, rows: number) => message('E', cstring(portal), int32(rows));
const SYNC = message('S');

/** One row at a time, with Flush between them. */
function pieces(name: string, sql: string): Attempt {
  const one = [execute('w', 1), message('H')];
  const bytes = Buffer.concat([
    parse('', sql),
    bind('w', ''),
    ...one,
    ...one,
    execute('w', 0),
    SYNC,
  ]);
  return { name, startup: [], steps: [{ kind: 'raw', bytes }] };
}

/** Described under a harmless text, run under another. */
function renamed(name: string): Attempt {
  const bytes = Buffer.concat([
    parse('r', 'select id from public.orders'),
    message('D', Buffer.from('S'), cstring('r')),
    message('C', Buffer.from('S'), cstring('r')),
    parse('r', ALL),
    bind('', 'r'),
    execute('', 0),
    SYNC,
  ]);
  return { name, startup: [], steps: [{ kind: 'raw', bytes }] };
}

/** FunctionCall of protocol 3.0 with arguments in binary. */
function functionCall(oid: number, args: readonly string[]): Buffer {
  const values = args.flatMap((arg) => [int32(Buffer.byteLength(arg)), Buffer.from(arg)]);
  return message('F', int32(oid), int16(1), int16(1), int16(args.length), ...values, int16(0));
}

/** @param oid of query_to_xml(text, boolean, boolean, text) */
export function queryToXmlCall(oid: number): Attempt {
  const bytes = functionCall(oid, [ALL, '\x01', '\x01', '']);
  return { name: 'FunctionCall of query_to_xml', startup: [], steps: [{ kind: 'raw', bytes }] };
}

export const MESSAGE_LEAKS: readonly Attempt[] = [
  extended('extended, text', ALL),
  binary('extended, binary', ALL),
  binary('binary of a whole row', 'select c from public.customers c'),
  binary('binary jsonb', 'select to_jsonb(c) from public.customers c'),
  binary(
    'binary digits',
    'select card::bigint, card::float8, card::int8 % 1000000007 from public.customers',
  ),
  binary('binary arrays', 'select array_agg(ssn), array_agg(card) from public.customers'),
  binary(
    'binary of bytea',
    'select ssn::bytea, convert_to(email, $$UTF16LE$$) from public.customers',
  ),
  prepared('described in an earlier batch', ALL, true),
  prepared('never described', ALL, false),
  prepared(
    'never described, concatenated',
    "select 'Z' || api_key || 'Z', reverse(ssn) from public.customers",
    false,
  ),
  pieces('a portal in pieces', ALL),
  pieces('a portal of COPY', 'copy public.customers to stdout (format binary)'),
  renamed('a name prepared anew'),
  started('latin1', [['client_encoding', 'LATIN1']], ALL),
  started('SQL_ASCII', [['client_encoding', 'SQL_ASCII']], ALL),
  started('client_encoding in options', [['options', '-c client_encoding=UTF8']], ALL),
  started(
    'search_path to the tables',
    [['search_path', 'writ_base_public, public']],
    'select * from customers',
  ),
  started(
    'a role in options',
    [['options', '-c role=postgres']],
    'select * from writ_base_public.customers',
  ),
  started('session_authorization', [['session_authorization', 'postgres']], ALL),
  started('replication', [['replication', 'database']], ALL),
  started(
    'debug output',
    [['options', '-c debug_print_plan=on -c client_min_messages=debug5']],
    ALL,
  ),
  simple('debug output, set', 'set client_min_messages = debug5', 'set debug_print_plan = on', ALL),
  simple('GBK', "set client_encoding = 'GBK'", ALL),
  simple(
    'a cursor over batches',
    `begin; declare c scroll cursor with hold for ${ALL}; commit`,
    'fetch 1 from c',
    'fetch backward all from c',
    'move first in c; fetch 1 from c',
  ),
  simple(
    'EXECUTE of a prepared text',
    `prepare p as ${ALL}`,
    'execute p',
    'create table public.t as execute p',
    'copy (select 1) to stdout',
  ),
  simple(
    'a notification',
    'listen leak',
    "select pg_notify('leak', ssn) from public.customers",
    'select 1',
  ),
  simple(
    'a setting, then SHOW',
    "select set_config('writ.x', (select ssn from writ_base_public.customers limit 1), false)",
    'show writ.x',
  ),
  simple(
    'an error of a constraint',
    "insert into public.customers (id, name) values (1, 'x')",
    'update public.customers set id = 2 where id = 1',
  ),
  simple(
    'an advisory lock by value',
    'select pg_advisory_lock(card::bigint) from public.customers',
    'select classid::bigint << 32 | objid::bigint, * from pg_locks',
  ),
  simple(
    'what others run',
    'select query from pg_stat_activity',
    'select * from pg_stat_statements',
  ),
  simple(
    'large objects',
    'select lo_from_bytea(4242, api_key::bytea) from public.customers',
    'select lo_get(4242)',
    'select * from pg_largeobject',
  ),
  simple(
    'a temporary function',
    "create function pg_temp.f(text) returns bool language plpgsql cost 0.0001 as $$ begin raise notice '%', $1; return true; end $$",
    'select id from public.customers where pg_temp.f(ssn)',
  ),
  simple(
    'a temporary view under the table’s name',
    'create temp view customers as select * from writ_base_public.customers',
    'select * from customers',
  ),
  simple(
    'the definition of the view, then its tables',
    "select pg_get_viewdef('public.customers'::regclass)",
    'select * from writ_base_public.customers',
    'table only writ_base_public.customers',
  ),
  simple(
    'keys of the masks',
    'select * from writ.mask_key',
    'select * from writ.session',
    'select * from writ.grant_group',
  ),
];
