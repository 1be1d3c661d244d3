import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { recordText, StatementRecord } from '../relay/recorded-statement.ts';
import { StatementReader } from './statement.ts';

const SSN = '536-22-8726';
const NAME = 'Lovelace';
const KEY = Buffer.alloc(32, 7);
const hmac = (value: string | Uint8Array) => createHmac('sha256', KEY).update(value).digest('hex');

describe('StatementReader', () => {
  const classified = new Map([
    ['public.customers', new Set(['ssn', 'email', 'name'])],
    ['crm.people', new Set(['Tax ID', 'phone'])],
  ]);
  let reader: StatementReader;
  before(async () => {
    await StatementReader.load();
    reader = new StatementReader({ classified, cacheBytes: 1_000_000 });
  });

  const record = (sql: string, bound: (string | Uint8Array | null)[] = []) => {
    const facts = reader.read(sql);
    const make = () => recordText(facts, sql, { hmacKey: KEY, isPart: false });
    return new StatementRecord(make, facts.parameterTargets, KEY).of(bound);
  };
  const parameters = (sql: string, bound: (string | Uint8Array | null)[] = []) =>
    (record(sql, bound).parameters ?? []).map(({ position, target, content }) => {
      const shown = content?.case === 'value' ? content.value : undefined;
      const hidden =
        content?.case === 'hmac' ? Buffer.from(content.value ?? []).toString('hex') : undefined;
      return { position, target, shown, hidden };
    });
  /** Values that a record keeps in clear. */
  const kept = (sql: string, bound: (string | Uint8Array | null)[] = []) =>
    parameters(sql, bound).flatMap(({ shown }) => (shown === undefined ? [] : [shown]));

  it('gives statements that differ in literals one fingerprint and one text', () => {
    const one = reader.read("select * from orders where id = 5 and note = 'a' -- first");
    const other = reader.read('select * from orders where id = 77 and note = $$b$$');
    assert.equal(one.fingerprint, other.fingerprint);
    assert.equal(one.text, other.text);
    assert.equal(one.text, 'select * from orders where id = $1 and note = $2');
  });

  it('names the tables of a statement, without its CTEs', () => {
    const sql = 'with c as (select 1) select * from c, app.orders o join "Items" using (id)';
    assert.deepEqual(reader.read(sql).tables, ['Items', 'app.orders']);
  });

  it('takes the strongest class of several statements', () => {
    assert.equal(reader.read('select 1; insert into t values (1)').class, 'write');
    assert.equal(reader.read('begin; select 1; commit').class, 'read');
    assert.equal(reader.read('select 1; drop table t').class, 'ddl');
    assert.equal(reader.read('nonsense').class, 'unparsed');
  });

  it('S9: keeps a literal whose column is known and not classified', () => {
    assert.deepEqual(
      kept("select * from orders where id = 5 and note like 'a%' limit 10 offset 3"),
      ['5', 'a%', '10', '3'],
    );
    assert.deepEqual(kept('select * from public.orders o where o.id in (1, 2) and -7 < o.total'), [
      '1',
      '2',
      '7',
    ]);
    assert.deepEqual(kept("insert into orders (note, id) values ('x', 1), ('y', '2'::int)"), [
      'x',
      '1',
      'y',
      '2',
    ]);
    assert.deepEqual(kept("update orders set note = 'x' where id between 1 and 2"), [
      'x',
      '1',
      '2',
    ]);
    assert.deepEqual(kept("delete from orders where orders.id = any('{1,2}')"), ['{1,2}']);
    assert.deepEqual(parameters('select * from public.orders where id = 5')[0], {
      position: 1,
      target: 'public.orders.id',
      shown: '5',
      hidden: undefined,
    });
  });

  it('S9: keeps bound values by the column that they are meant for', () => {
    const sql = 'select * from customers where ssn = $1 and id = $2 limit $3';
    const [ssn, id, limit] = parameters(sql, [SSN, '5', '10']);
    assert.deepEqual(ssn, {
      position: 1,
      target: 'customers.ssn',
      shown: undefined,
      hidden: hmac(SSN),
    });
    assert.equal(id?.shown, '5');
    assert.equal(limit?.shown, '10');
    assert.deepEqual(
      kept('insert into orders (id, note) values ($1, $2)', [Buffer.from([0, 5]), null]),
      ['\\x0005'],
    );
  });

  it("S9: gives literals the positions after the client's own parameters", () => {
    const sql = "select * from orders where id = $1 and note = 'a'";
    assert.equal(reader.read(sql).text, 'select * from orders where id = $1 and note = $2');
    assert.deepEqual(
      parameters(sql, ['5']).map(({ position, shown }) => [position, shown]),
      [
        [2, 'a'],
        [1, '5'],
      ],
    );
  });

  it('S9: hides a bound value that one use of its parameter hides', () => {
    assert.deepEqual(kept('select * from customers where id = $1 or ssn = $1', [SSN]), []);
    assert.deepEqual(kept('select $1, * from orders where id = $1', [SSN]), []);
    assert.deepEqual(kept('select * from orders limit $1', [SSN]), []);
    assert.deepEqual(kept('selekt $1', [SSN]), []);
    assert.deepEqual(kept('select * from orders', [SSN]), []);
  });

  it('S9: lets who holds the key find a value, whatever way it was written', () => {
    const forms = [
      `select * from customers where ssn = '${SSN}'`,
      `select * from customers where ssn = E'536\\x2d22-8726'`,
      `select * from customers where ssn = U&'536\\002d22-8726'`,
      `select * from customers where ssn = $tag$${SSN}$tag$`,
      `select * from customers where ssn = '536-'\n'22-8726'`,
    ];
    for (const sql of forms) assert.equal(parameters(sql)[0]?.hidden, hmac(SSN), sql);
    const bound = parameters('select * from customers where ssn = $1', [Buffer.from(SSN)]);
    assert.equal(bound[0]?.hidden, hmac(SSN));
  });

  it('S9: keeps the HMAC of the whole text, unless nothing of the text is left out', () => {
    for (const sql of [
      `selekt '${SSN}'`,
      `select * from customers where ssn = '${SSN}'`,
      'select * from orders where id = 5 -- why',
      'select * from orders where id = /* why */ 5',
      `insert into orders (id) values ${'(1),'.repeat(2000)}(1)`,
    ]) {
      assert.equal(Buffer.from(record(sql).textHmac ?? []).toString('hex'), hmac(sql), sql);
    }
    for (const sql of [
      "select * from orders where id = 5 and note = 'x'",
      'select 1 from orders limit 1; commit',
    ]) {
      const { textHmac, parameters: values } = record(sql);
      const isKept = values?.every(({ content }) => content?.case === 'value') === true;
      assert.equal(textHmac?.length, isKept ? 0 : 32, sql);
    }
  });

  const LEAKS = [
    `select * from customers where ssn = '${SSN}'`,
    `select * from customers where '${SSN}' = ssn`,
    `select * from customers where ssn like '%${SSN}%'`,
    `select * from customers where ssn in ('1', '${SSN}')`,
    `select * from customers where ssn::text = '${SSN}'::varchar`,
    `select * from customers where lower(ssn) = '${SSN}'`,
    `select * from customers where ssn || '' = '${SSN}'`,
    `select * from customers where (id, ssn) = (1, '${SSN}')`,
    `select * from customers where ssn = any(array['${SSN}'])`,
    `select * from customers where "ssn" = '${SSN}'`,
    `select * from customers c where c.ssn = '${SSN}'`,
    `select * from crm.people where "Tax ID" = '${SSN}'`,
    `select * from orders where ssn = '${SSN}'`,
    `select * from unknown_view where SSN = '${SSN}'`,
    `select '${SSN}'`,
    `select '${SSN}' as id from orders`,
    `select * from orders where id = coalesce(null, '${SSN}')`,
    `select * from orders where id = (select '${SSN}')`,
    `select * from orders where note || '${SSN}' = note`,
    `select * from (select ssn as id from customers) x where id = '${SSN}'`,
    `select * from (select ssn as id from customers) x where x.id = '${SSN}'`,
    `select * from customers c(id, ref) where ref = '${SSN}'`,
    `with x(id) as (select ssn from customers) select * from x where id = '${SSN}'`,
    `with orders as (select ssn as id from customers) select * from orders where id = '${SSN}'`,
    `select * from orders o, lateral (select ssn as id from customers) x where id = '${SSN}'`,
    `select * from orders o where exists (select from (select ssn as id from customers) x where id = '${SSN}')`,
    `select * from unnest(array['${SSN}']) as id where id = '${SSN}'`,
    `select * from (orders join customers using (id)) as j(a, b) where b = '${SSN}'`,
    `select id as ref from customers group by ssn having ssn = '${SSN}'`,
    `insert into customers (id, ssn) values (1, '${SSN}')`,
    `insert into customers values (1, 'x', '${SSN}')`,
    `insert into customers (id, ssn) select 1, '${SSN}'`,
    `insert into customers (id, ssn) values (1, '${SSN}'), (2, upper('${SSN}'))`,
    `insert into orders (id) values (1) on conflict (id) do update set ssn = '${SSN}'`,
    `insert into customers as c (id) values (1) on conflict (id) do update set id = 2 where c.ssn = '${SSN}'`,
    `insert into orders (id) values (1) returning (id = 1 and '${SSN}' <> '')`,
    `update customers set ssn = '${SSN}' where id = 1`,
    `update customers set (id, ssn) = (1, '${SSN}')`,
    `update customers set (id, ssn) = (select 1, '${SSN}')`,
    `update orders set note = c.ssn from customers c where c.ssn = '${SSN}'`,
    `delete from customers where ssn = '${SSN}'`,
    `merge into customers c using orders o on c.ssn = '${SSN}' when matched then update set ssn = '${SSN}' when not matched then insert (id, ssn) values (1, '${SSN}')`,
    `copy (select * from customers where ssn = '${SSN}') to stdout`,
    `copy customers from stdin (null '${SSN}')`,
    `copy t from '/tmp/${SSN}'`,
    `prepare p as select * from customers where ssn = '${SSN}'`,
    `execute p('${SSN}')`,
    `declare c cursor for select * from customers where ssn = '${SSN}'`,
    `explain select * from customers where ssn = '${SSN}'`,
    `set application_name = '${SSN}'`,
    `select set_config('application_name', '${SSN}', false)`,
    `alter role x password '${SSN}'`,
    `create table x (a text default '${SSN}')`,
    `create table x (a text check (a <> '${SSN}'))`,
    `comment on table x is '${SSN}'`,
    `notify c, '${SSN}'`,
    `do $$ begin perform '${SSN}'; end $$`,
    `do language plpgsql 'select ''${SSN}'''`,
    `select 1 -- ${SSN}`,
    `select 1 /* ${SSN} /* nested */ */`,
    `select $$${SSN}$$, $a$${SSN}$a$`,
    `select E'536\\x2d22-8726', E'${SSN}\\n'`,
    `select U&'536!002d22-8726' uescape '!'`,
    `select N'${SSN}', '536-'\n'22-8726'`,
    `select b'1', x'${Buffer.from(SSN).toString('hex')}'`,
    `select 1 as "${SSN}"`,
    `select U&"536\\002d22-8726"`,
    `select * from customers where ssn = "${SSN}"`,
    `select * from "${SSN}"`,
    `select 536228726 from customers`,
    `select * from customers where ssn = 536228726`,
    `select * from orders limit '${SSN}'`,
    `select * from orders order by '${SSN}'`,
    `select * from orders where note operator(pg_catalog.=) '${SSN}'`,
    `select * from xmltable('${SSN}' passing '<a/>' columns a text)`,
    `select '{"ssn":"${SSN}"}'::jsonb ->> '${SSN}'`,
    `select interval '1' day, date '${SSN}'`,
    `select * from orders where id = '${SSN}' collate "C" = true`,
    `selekt '${SSN}'`,
    `select '${SSN}`,
    `${SSN}`,
    `begin; select '${SSN}'; commit`,
  ];

  it('S9: keeps no value that may belong to a classified column, in no way of writing it', () => {
    for (const sql of LEAKS) {
      const everything = JSON.stringify(record(sql), (_key, value) =>
        typeof value === 'bigint' ? String(value) : value,
      );
      for (const form of [SSN, '536228726', '22-8726', Buffer.from(SSN).toString('hex')]) {
        assert.ok(!everything.includes(form), `${form} of ${sql} stands in ${everything}`);
      }
    }
  });

  it('S9: hides a bare word where a classified value is expected', () => {
    for (const sql of [
      `select * from customers where name = ${NAME}`,
      `select * from customers where name = "${NAME}"`,
      `insert into customers (name) values ("${NAME}")`,
      `update customers set name = ${NAME}`,
    ]) {
      assert.ok(!JSON.stringify(record(sql)).includes(NAME), sql);
    }
  });

  it('keeps at most so many parameters and never a very long value', () => {
    const many = `insert into orders (id) values ${'(1),'.repeat(5000)}(1)`;
    assert.equal(record(many).parameters?.length, 2000);
    assert.deepEqual(kept('insert into orders (note) values ($1)', ['x'.repeat(5000)]), []);
  });

  it('reads a statement of a shape that it knows as if it had parsed it', () => {
    const statements = [
      ...LEAKS,
      "select * from orders where id = 5 and note = 'a' limit 3",
      "select * from orders where id = -7 and note = 'it''s' limit 4",
      'select * from orders where id = 12345678901',
      "select set_config('application_name', 'a', false)",
      "select set_config('role', 'a', false)",
      "set application_name = 'a'",
      "set role = 'a'",
    ];
    for (const sql of [...statements, ...statements]) {
      const fresh = new StatementReader({ classified, cacheBytes: 0 });
      assert.deepEqual(reader.read(sql), fresh.read(sql), sql);
    }
  });

  it('S9: does not take a word that looks like a parameter for a literal', () => {
    reader.read("select * from orders where N$2 = ssn and id = 'y'");
    const sql = `select * from orders where N'${SSN}' = ssn and id = $1`;
    assert.deepEqual(kept(sql, ['5']), ['5']);
  });

  it('S9: takes no digits for a literal that is none, in a text whose like it knows', () => {
    const pairs = [
      [
        '/* 7 */ select * from orders where id = 7$1',
        '/* 536228726 */ select * from orders where id = 7$1',
      ],
      [
        "select * from orders where note = 'a 7 b'",
        "select * from orders where note = 'a 536228726 b'",
      ],
      ['select * from orders where id = 7 -- 7', 'select * from orders where id = 7 -- 536228726'],
      ['select "a 7" from orders where id = 7', 'select "a 536228726" from orders where id = 7'],
      [
        'select $$ 7 $$ from orders where id = 7',
        'select $$ 536228726 $$ from orders where id = 7',
      ],
      ['select 7 from orders where é = 7', 'select 536228726 from orders where é = 7'],
      ['select * from orders where id = 7', '\u00a0select * from orders where id = 536228726'],
      [
        'select 1.5, 7 from orders where id = 1e3',
        'select 1.5, 536228726 from orders where id = 1e3',
      ],
    ] as const;
    for (const [first, second] of pairs) {
      for (const sql of [first, first, second]) {
        const fresh = new StatementReader({ classified, cacheBytes: 0 });
        assert.deepEqual(reader.read(sql), fresh.read(sql), sql);
      }
      assert.ok(!kept(second).includes('536228726'), second);
    }
    kept('select * from orders where id = 7 limit 3');
    assert.deepEqual(kept('select * from orders where id = 81 limit 40'), ['81', '40']);
  });

  it('goes on with a cache that is full', () => {
    const small = new StatementReader({ classified, cacheBytes: 3000 });
    for (let n = 0; n < 20; n += 1) small.read(`select ${'1 + '.repeat(n)} 1`);
    assert.equal(small.read('select 7').literals[0]?.value, '7');
  });

  it('S9: takes no odd name for a table or a column', () => {
    const { tables, parameters: values } = record(`insert into "${SSN}" ("${SSN}") values (1)`);
    assert.deepEqual(tables, []);
    assert.equal(values?.at(-1)?.target, '');
  });
});
