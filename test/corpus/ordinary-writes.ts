/** Changes of applications, each within the rights of its grant. */
import type { OrdinarySet } from './ordinary-set.ts';

const ACCOUNT = '33333333-3333-4333-8333-333333333333';

export const WRITING_STATEMENTS: readonly OrdinarySet[] = [
  {
    program: 'Prisma, writing',
    statements: [
      'BEGIN',
      {
        sql: 'INSERT INTO "public"."products" ("sku","name","price","tags","attributes") VALUES ($1,$2,$3,$4,$5) RETURNING "public"."products"."id", "public"."products"."sku"',
        values: ['P-1', 'prisma', '1.5', ['a'], '{}'],
      },
      {
        sql: 'UPDATE "public"."products" SET "name" = $1 WHERE ("public"."products"."id" = $2 AND 1=1) RETURNING "public"."products"."id", "public"."products"."name"',
        values: ['renamed', 1],
      },
      {
        sql: 'INSERT INTO "public"."products" ("sku","name") VALUES ($1,$2) ON CONFLICT ("sku") DO UPDATE SET "name" = $3 WHERE "public"."products"."sku" = $4 RETURNING "public"."products"."id"',
        values: ['SKU-2', 'x', 'y', 'SKU-2'],
      },
      {
        sql: 'DELETE FROM "public"."order_items" WHERE ("public"."order_items"."order_id" IN ($1) AND 1=1)',
        values: [2],
      },
      {
        sql: 'DELETE FROM "public"."orders" WHERE ("public"."orders"."id" IN ($1) AND 1=1) RETURNING "public"."orders"."id"',
        values: [2],
      },
      'COMMIT',
      {
        sql: 'INSERT INTO "public"."Account" ("id","displayName") VALUES (CAST($1::text AS UUID),$2)',
        values: [ACCOUNT, 'Mary'],
      },
    ],
  },
  {
    program: 'Hibernate, writing',
    statements: [
      'BEGIN',
      {
        sql: 'insert into public.orders (customer_id,note,total) values ($1,$2,$3) returning id',
        values: [1, 'h', '12.30'],
      },
      {
        sql: 'insert into public.products (name,price,sku,id) values ($1,$2,$3,$4)',
        values: ['h', '1', 'H-1', 900],
      },
      {
        sql: 'update public.products set name=$1,price=$2,sku=$3,updated_at=$4 where id=$5',
        values: ['h2', '2', 'H-2', '2024-05-05 00:00:00', 900],
      },
      {
        sql: 'update public.order_items set quantity=$1,status=$2 where order_id=$3 and product_id=$4',
        values: [4, 'sent', 1, 1],
      },
      { sql: 'delete from public.products where id=$1', values: [900] },
      'COMMIT',
      "select nextval('public.products_id_seq'), currval('public.products_id_seq')",
      "select nextval('public.customers_id_seq')",
      'merge into public.order_items t using (values (1, 2::bigint, 9)) s(o, p, q) on t.order_id = s.o and t.product_id = s.p when matched then update set quantity = s.q when not matched then insert (order_id, product_id, quantity) values (s.o, s.p, s.q)',
      { sql: 'update public.customers set name=$1 where id=$2', values: ['Ada L.', 1] },
    ],
  },
  {
    program: 'Rails, writing',
    statements: [
      'BEGIN',
      {
        sql: 'INSERT INTO "products" ("sku", "name", "price", "created_at") VALUES ($1, $2, $3, $4) RETURNING "id"',
        values: ['R-1', 'rails', '3', '2024-01-02 03:04:05.678901'],
      },
      'SAVEPOINT active_record_1',
      `INSERT INTO "products" ("sku", "name") VALUES ('SKU-1', 'dup') ON CONFLICT DO NOTHING RETURNING "id"`,
      'ROLLBACK TO SAVEPOINT active_record_1',
      {
        sql: 'UPDATE "products" SET "price" = $1, "updated_at" = $2 WHERE "products"."id" = $3',
        values: ['4', '2024-02-02', 2],
      },
      `UPDATE "products" SET "price" = COALESCE("price", 0) + 1 WHERE "products"."id" IN (SELECT "products"."id" FROM "products" WHERE "products"."active" = TRUE ORDER BY "products"."id" LIMIT 3 FOR UPDATE SKIP LOCKED)`,
      { sql: 'DELETE FROM "order_items" WHERE "order_items"."order_id" = $1', values: [1] },
      'COMMIT',
      'UPDATE "products" SET "active" = FALSE WHERE "products"."active" = TRUE',
      `INSERT INTO "order_items" ("order_id","product_id","quantity") VALUES (1, 5, 1), (1, 6, 2) ON CONFLICT ("order_id","product_id") DO UPDATE SET "quantity"=excluded."quantity"`,
      "SELECT nextval('orders_id_seq'), lastval()",
      `SELECT nextval('"public"."customers_id_seq"'), currval('customers_id_seq')`,
    ],
  },
  {
    program: 'Django, writing',
    statements: [
      'BEGIN',
      `INSERT INTO "orders" ("customer_id", "total", "note") VALUES (2, '7.00', 'django') RETURNING "orders"."id"`,
      'SAVEPOINT "s140001_x1"',
      `UPDATE "products" SET "price" = ("products"."price" * 1.1) WHERE "products"."id" = 3`,
      'RELEASE SAVEPOINT "s140001_x1"',
      'DELETE FROM "order_items" WHERE "order_items"."order_id" IN (1, 2)',
      `UPDATE "products" SET "name" = CASE WHEN ("products"."id" = 1) THEN 'one' WHEN ("products"."id" = 2) THEN 'two' ELSE NULL END WHERE "products"."id" IN (1, 2)`,
      'COMMIT',
      `INSERT INTO "products" ("sku", "name") SELECT 'D-' || g, 'bulk' FROM generate_series(1, 3) g RETURNING "products"."id"`,
      'DELETE FROM "orders" WHERE "orders"."id" = 2',
    ],
  },
  {
    program: 'SQLAlchemy, writing',
    statements: [
      'BEGIN',
      {
        sql: 'INSERT INTO public.orders (customer_id, total) VALUES ($1::INTEGER, $2::NUMERIC(10, 2)) RETURNING public.orders.id',
        values: [1, '5'],
      },
      {
        sql: 'INSERT INTO products (sku, name) SELECT p0::VARCHAR, p1::VARCHAR FROM (VALUES ($1, $2, 0), ($3, $4, 1)) AS imp_sen(p0, p1, sen_counter) ORDER BY sen_counter RETURNING products.id, products.id AS id__1',
        values: ['A-1', 'a', 'A-2', 'b'],
      },
      {
        sql: 'UPDATE products SET price=products.price + $1 WHERE products.id = $2::BIGINT',
        values: ['1', 1],
      },
      'WITH changed AS (UPDATE products SET weight = 1 WHERE id < 3 RETURNING id) SELECT count(*) FROM changed',
      'WITH gone AS (DELETE FROM order_items WHERE quantity = 5 RETURNING *) SELECT order_id, product_id FROM gone',
      'DELETE FROM order_items USING orders WHERE order_items.order_id = orders.id AND orders.total > 1',
      'ROLLBACK',
      'UPDATE orders SET note = p.sku FROM products p WHERE p.id = orders.id',
    ],
  },
  {
    program: 'node-postgres, Knex and Drizzle, writing',
    statements: [
      {
        sql: 'insert into "orders" ("customer_id", "note", "total") values ($1, $2, default) returning *',
        values: [1, null],
      },
      {
        sql: 'update "products" set "attributes" = jsonb_set("attributes", $1, $2) where "id" = $3 returning "attributes"',
        values: ['{a,b}', '1', 1],
      },
      {
        sql: 'update "products" set "tags" = array_append("tags", $1) where "id" = $2',
        values: ['new', 1],
      },
      {
        sql: 'insert into "products" ("sku", "name") values ($1, $2) on conflict ("sku") do update set "name" = excluded."name" returning "id"',
        values: ['SKU-3', 'up'],
      },
      "insert into products (sku, name, photo) values ('B-1', 'b', '\\xdeadbeef') returning photo",
      "begin; insert into orders (customer_id, note) values (1, 'a'); insert into orders (customer_id, note) values (1, 'b'); commit",
      { sql: 'delete from "orders" where "id" = $1 and "note" is not null', values: [1] },
    ],
  },
  {
    program: 'pgx, psycopg and JDBC, writing',
    statements: [
      'prepare ins as insert into public.orders (customer_id, total) values ($1, $2) returning id',
      'execute ins (1, 3.5)',
      'deallocate ins',
      'insert into public."Account" default values',
      'begin isolation level serializable',
      'select id from public.orders where id = 1 for share',
      'rollback',
      "insert into public.customers (name) values ('New') returning name",
      'delete from public.customers where id > 2',
      'explain (analyze, costs off, timing off, summary off, buffers off) update public.products set weight = 2 where id = 1',
      "insert into public.products (sku, name) values ('J-1', $$dollar; delete from orders$$) /* ; drop table orders */ returning name",
      "update public.products set name = 'a''b; truncate orders --' where id = 2 returning name",
      'begin; update public.products set price = 0 where id = 1; savepoint a; update public.products set price = 1 where id = 1; rollback to a; commit',
    ],
  },
];
