/**
 * Ways to the unmasked value of a masked column, tried by a grant that reads `customers`: those of
 * facts/gateway.md 2.1 and 2.2, and what else a text or a message can do.
 */
import { LEAK_CORPUS } from '../fixtures/leak-corpus.ts';
import { type Attempt, simple } from './attempt.ts';
import { MESSAGE_LEAKS, queryToXmlCall } from './leak-messages.ts';

/** Made by the superuser before the attempts: what an owner may have left open, closed to PUBLIC. */
export const OWNERS_HELPERS_SQL = `
  create function public.read_as_owner() returns setof text language sql security definer
    as 'select ssn from public.customers';
  revoke execute on function public.read_as_owner() from public;
  create view public.people_of_owner as select id, ssn, email from public.customers;`;

const MORE_TEXTS: readonly string[] = [
  'select public.read_as_owner()',
  'select * from public.people_of_owner',
  'select ssn from public.customers where ssn ~ $$^536$$',
  'select case when ssn like $$536%$$ then ssn else email end from public.customers',
  'select distinct on (ssn) ssn, count(*) over (partition by email) from public.customers group by ssn, email',
  'select mode() within group (order by ssn), percentile_disc(0) within group (order by card) from public.customers',
  'select format($$%s%L%I$$, ssn, email, api_key) from public.customers',
  'select quote_literal(ssn), md5(ssn), sha256(ssn::bytea), hashtext(email) from public.customers',
  'select regexp_split_to_array(ssn, $$$$), string_to_array(email, null) from public.customers',
  'select ssn::xml, xmlelement(name a, email) from public.customers',
  'select jsonb_path_query(to_jsonb(c), $$$.*$$) from public.customers c',
  'select (json_each_text(row_to_json(c))).* from public.customers c',
  'select (jsonb_populate_record(null::public.customers, to_jsonb(c))).* from public.customers c',
  'select to_tsvector($$simple$$, email), ts_headline(email, $$ada$$) from public.customers',
  'select 1 / (ssn = $$536-22-8726$$)::int from public.customers',
  'select (array[1])[ssn::int] from public.customers',
  'select xmlparse(document ssn) from public.customers',
  'select to_date(email, $$YYYY$$), to_number(api_key, $$999$$) from public.customers',
  'select convert_from(ssn::bytea, $$GBK$$) from public.customers',
  'select tableoid, ctid, xmin, * from public.customers',
  'select * from public.customers tablesample system (100)',
  'select o.id, c.* from public.orders o natural join public.customers c',
  'select * from public.customers c, lateral (select c.ssn || c.email as x) l',
  'select * from (values ((select ssn from public.customers limit 1))) v',
  'with recursive r(s, n) as (select ssn, 1 from public.customers union all select substr(s, 2), n + 1 from r where n < 12) select * from r',
  'merge into public.customers c using public.customers d on c.id = d.id when matched then update set name = d.ssn',
  'insert into public.orders (customer_id, note) select id, ssn from public.customers returning note',
  'update public.orders set note = (select ssn from public.customers limit 1) returning note',
  'insert into public.customers (name) select ssn from public.customers returning *',
  'select pg_relation_filepath($$public.customers$$), pg_read_binary_file($$PG_VERSION$$)',
  'select * from heap_page_items(get_raw_page($$public.customers$$, 0))',
  'select * from dblink($$dbname=postgres$$, $$select ssn from public.customers$$) t(s text)',
  'select stavalues1 from pg_statistic where starelid = $$public.customers$$::regclass',
  'select histogram_bounds from pg_stats where attname in ($$ssn$$, $$email$$)',
  'explain (analyze, verbose, format json) select ssn from public.customers where ssn > (select min(email) from public.customers)',
  'select cursor_to_xml($$c$$, 10, true, true, $$$$)',
  'select schema_to_xml($$public$$, true, true, $$$$)',
];

/** @param queryToXml the OID of query_to_xml(text, boolean, boolean, text) */
export function leakAttempts(queryToXml: number): readonly Attempt[] {
  const texts = [...LEAK_CORPUS, ...MORE_TEXTS].map((sql) => simple(sql, sql));
  return [...texts, ...MESSAGE_LEAKS, queryToXmlCall(queryToXml)];
}
