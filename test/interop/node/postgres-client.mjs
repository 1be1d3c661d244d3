// What a Node service does with node-postgres: pool, cursor, stream. Prints one JSON document.
//
// usage: node postgres-client.mjs TARGET
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import Cursor from 'pg-cursor';
import QueryStream from 'pg-query-stream';
import { ASLEEP, IS_ASLEEP, pgConfig, stateOf } from './target.mjs';

const KINDS = 'select id, t, n, ts, d, j, a, ta, b, u, flag, f, big, iv from kinds order by id';
const config = pgConfig(JSON.parse(process.argv[2]));

async function report() {
  const pool = new pg.Pool({ ...config, max: 4, idleTimeoutMillis: 200 });
  const lost = [];
  pool.on('error', (error) => lost.push(error.message));
  const client = await pool.connect();
  const found = {
    kinds: await kindsOf(client),
    prepared: await preparedOf(client),
    transactions: await transactionsOf(client),
    cursor: await cursorOf(client),
    stream: await streamOf(client),
    cancels: await cancelsOf(client),
  };
  client.release();
  found.pooled = await pooledOf(pool);
  await pool.end();
  return { ...found, lost };
}

async function kindsOf(client) {
  const { rows } = await client.query({ text: KINDS, rowMode: 'array' });
  const bound = await client.query(KINDS.replace('order', 'where id < $1 order'), [10]);
  const masked = await client.query('select ssn from customers where id = $1', [1]);
  return { rows, bound: bound.rows, masked: masked.rows, names: masked.fields.map((field) => field.name) };
}

async function preparedOf(client) {
  const found = [];
  for (const id of [1, 2, 3]) {
    const text = 'select customer from orders where id = $1';
    found.push((await client.query({ name: 'by-id', text, values: [id] })).rows);
  }
  return found;
}

async function transactionsOf(client) {
  await client.query('begin');
  await client.query("insert into orders (customer, total) values ('node', 1)");
  await client.query('savepoint one');
  const states = [await stateOf(client.query('delete from vault'))];
  states.push(await stateOf(client.query('select 1')));
  await client.query('rollback to savepoint one');
  await client.query('commit');
  await client.query('begin');
  states.push(await stateOf(client.query('select * from vault where id = $1', [1])));
  states.push(await stateOf(client.query('select 1')));
  await client.query('rollback');
  const { rows } = await client.query("select count(*) from orders where customer = 'node'");
  return [states, rows];
}

async function cursorOf(client) {
  const cursor = client.query(new Cursor('select id from bulk where id > $1 order by id', [0]));
  let sum = 0;
  for (;;) {
    const rows = await cursor.read(700);
    if (rows.length === 0) break;
    for (const { id } of rows) sum += id;
  }
  await cursor.close();
  return sum;
}

async function streamOf(client) {
  let [sum, bytes] = [0, 0];
  const stream = new QueryStream('select id, filler from bulk order by id', [], { batchSize: 300 });
  for await (const { id, filler } of client.query(stream)) {
    sum += id;
    bytes += filler.length;
  }
  return [sum, bytes];
}

// Its cancel asks on a connection of its own without TLS, as older libpq does.
async function cancelsOf(client) {
  const query = new pg.Query(ASLEEP);
  const asleep = new Promise((resolve, reject) => {
    query.on('end', resolve);
    query.on('error', reject);
  });
  const state = stateOf(asleep);
  client.query(query);
  await untilAsleep();
  new pg.Client(config).cancel(client, query);
  const states = [await state];
  await client.query('begin; set local statement_timeout = 200');
  states.push(await stateOf(client.query(ASLEEP)));
  await client.query('rollback');
  return states;
}

async function untilAsleep() {
  const other = new pg.Client(config);
  await other.connect();
  while ((await other.query(IS_ASLEEP)).rows[0].n === 0) await sleep(20);
  await other.end();
}

async function pooledOf(pool) {
  const asked = Array.from({ length: 40 }, async (_, n) => {
    if (n % 10 === 0) await stateOf(pool.query('delete from vault'));
    return (await pool.query('select $1::int * 2 as n', [n])).rows[0].n;
  });
  return Promise.all(asked);
}

console.log(JSON.stringify(await report()));
