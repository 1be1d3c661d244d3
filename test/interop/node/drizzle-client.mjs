// What a Node service does with Drizzle on node-postgres. Prints one JSON document.
//
// usage: node drizzle-client.mjs TARGET
import { asc, eq, inArray, sql } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import { integer, numeric, pgTable, serial, text } from 'drizzle-orm/pg-core';
import pg from 'pg';
import { pgConfig, stateOf } from './target.mjs';

const orders = pgTable('orders', {
  id: integer().primaryKey().generatedByDefaultAsIdentity(),
  customer: text().notNull(),
  total: numeric({ precision: 12, scale: 2 }).notNull(),
  status: text().notNull().default('new'),
});
const items = pgTable('items', {
  id: serial().primaryKey(),
  orderId: integer('order_id').notNull(),
  label: text(),
});
const customers = pgTable('customers', { id: integer().primaryKey(), ssn: text() });
const ONE = { customer: 'drizzle ü', total: '9.50' };

async function report(db) {
  const [made] = await db.insert(orders).values(ONE).returning();
  const many = Array.from({ length: 20 }, (_, n) => ({ orderId: made.id, label: `many ${n}` }));
  const { rowCount } = await db.insert(items).values(many);
  const rolledBack = await stateOf(
    db.transaction(async (outer) => {
      await outer.update(orders).set({ status: 'lost' }).where(eq(orders.id, made.id));
      await stateOf(outer.transaction((inner) => inner.execute(sql`delete from vault`)));
      await outer.insert(orders).values(ONE);
    }),
  );
  const upserted = await db
    .insert(orders)
    .values(ONE)
    .onConflictDoUpdate({ target: [orders.customer, orders.total], set: { status: 'again' } })
    .returning({ status: orders.status });
  return {
    masked: await db.query.customers.findFirst({ where: eq(customers.id, 1) }),
    refused: await stateOf(db.execute(sql`select * from vault where id = ${1}`)),
    made,
    rowCount,
    rolledBack,
    upserted,
    joined: await db
      .select({ status: orders.status, label: items.label })
      .from(orders)
      .innerJoin(items, eq(items.orderId, orders.id))
      .where(inArray(orders.id, [1, made.id]))
      .orderBy(asc(items.id))
      .limit(5),
    removed: (await db.delete(items).where(eq(items.orderId, made.id)).returning()).length,
    counted: await db.$count(orders),
  };
}

const pool = new pg.Pool({ ...pgConfig(JSON.parse(process.argv[2])), max: 2 });
const db = drizzle(pool, { schema: { orders, items, customers } });
console.log(JSON.stringify(await report(db)));
await pool.end();
