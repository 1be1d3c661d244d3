import assert from 'node:assert/strict';
import { loadModule, parseSync } from 'libpg-query';
import { fieldsOf, listOf } from '../statements/statement-tree.ts';
import { reachOf, type StatementReach } from './statement-reach.ts';

const COLUMNS = new Set(['ssn', 'email']);

function read(sql: string): StatementReach {
  const statements = listOf(parseSync(sql).stmts).map((raw) => fieldsOf(raw).stmt);
  return reachOf(statements, {
    mayShow: (name, isCte) => name === 'customers' || (name.startsWith('new') && !isCte),
    columnsOf: () => COLUMNS,
    functions: new Set(['granted']),
  });
}

describe('reachOf', () => {
  before(() => loadModule());

  it('leaves statements alone that touch nothing classified', () => {
    for (const sql of [
      'select ssn from orders where ssn = $$x$$ order by 1',
      'select count(*), upper(note) from orders',
      'with customers_too as (select 1) select * from customers_too',
      'insert into orders (note) values ($1)',
      'show search_path',
    ]) {
      assert.deepEqual(read(sql), { touches: false, outputs: undefined, refusal: undefined }, sql);
    }
  });

  it('lets classified columns be put out', () => {
    for (const sql of [
      'select id, ssn from customers where id = 1',
      'select * from (select * from customers) q where q.id = 1',
      'with x as (select * from customers) select x.ssn from x',
      'select ssn from customers union all select email from customers',
      "select 'x' || ssn, max(email), row_to_json(c) from customers c",
      'select c.id, o.note from customers c join orders o on o.customer_id = c.id order by o.id',
      'update customers set name = $1 where id = $2 returning ssn',
      'prepare p as select ssn from customers',
      'select id from newer_than_the_catalog',
    ]) {
      const { touches, refusal } = read(sql);
      assert.deepEqual({ touches, refusal }, { touches: true, refusal: undefined }, sql);
    }
  });

  it('knows which outputs tell nothing', () => {
    const sql = "select count(*), now(), 'x'::text, upper(name), count(ssn) from customers";
    assert.deepEqual(read(sql).outputs, [true, true, true, false, false]);
    assert.equal(read('select *, count(*) over () from customers').outputs, undefined);
    assert.equal(read('select count(*) from customers union all select 1').outputs, undefined);
  });

  it('G26 refuses classified columns that decide', () => {
    for (const sql of [
      "select id from customers where ssn like '5%'",
      "select id from customers c where (c).ssn = 'x'",
      'select id from customers where customers.ssn = $1',
      'select id from customers c where c::text ~ $1',
      "select id from customers where id in (select id from customers where email = 'x')",
      'select count(*) from customers group by ssn',
      'select distinct ssn from customers',
      'select distinct * from customers',
      'select ssn from customers order by 1',
      'select ssn as x from customers order by x',
      'select id from customers a join orders b on b.note = a.ssn',
      'select id from customers a join other b using (ssn)',
      'select 1 from customers natural join orders',
      'select ssn from customers union select email from customers',
      'select id, rank() over (order by ssn) from customers',
      'select id, rank() over w from customers window w as (order by ssn)',
      'select (select ssn from customers limit 1)',
      'select 1 limit (select length(ssn) from customers limit 1)',
      'select count(*) from (select c as r from customers c) q where q.r::text like $1',
      'select count(*) from (select ssn from customers) q(x) where x like $1',
      'select count(*) from (values ((select ssn from customers limit 1))) v(x) where x like $1',
      'select unnest(string_to_array(ssn, null)) from customers',
      'select * from customers c, lateral generate_series(1, length(c.ssn))',
      'delete from orders using customers c where c.ssn = note',
      "explain analyze select 1 from customers where ssn like '5%'",
      "declare c cursor for select 1 from customers where ssn like '5%'",
    ]) {
      assert.equal(read(sql).refusal, 'masked-column-in-condition', sql);
    }
  });

  it('refuses classified columns that are written elsewhere', () => {
    for (const sql of [
      'insert into orders (note) select ssn from customers',
      'insert into orders select * from customers',
      'update orders set note = c.email from customers c where c.id = 1',
      'insert into customers (name) values ($1) on conflict (id) do update set name = customers.ssn',
    ]) {
      assert.match(read(sql).refusal ?? '', /^masked-column-(copied|in-condition)$/, sql);
    }
  });

  it('refuses COPY of what it touches, functions that nobody names, and statistics', () => {
    assert.equal(read('copy customers to stdout').refusal, 'copy-of-masked-table');
    assert.equal(read('copy (select 1 from customers) to stdout').refusal, 'copy-of-masked-table');
    assert.equal(read('copy orders to stdout').refusal, undefined);
    assert.equal(read('select own()').refusal, 'function-not-listed');
    assert.equal(read('select public.upper(note) from orders').refusal, 'function-not-listed');
    assert.equal(read('select * from pg_catalog.pg_stats').refusal, 'statistics-of-masked-tables');
  });

  it('takes the result of what it cannot see into for touched', () => {
    for (const sql of ['select granted()', 'execute p', 'fetch all from c']) {
      assert.equal(read(sql).touches, true, sql);
      assert.equal(read(sql).outputs, undefined, sql);
    }
  });
});
