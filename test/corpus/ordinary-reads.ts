/** Queries of applications: schema-qualified and not, of plain tables and of one with masked columns. */
import type { OrdinarySet } from './ordinary-set.ts';

export const READING_STATEMENTS: readonly OrdinarySet[] = [
  {
    program: 'Prisma',
    statements: [
      {
        sql: 'SELECT "public"."products"."id", "public"."products"."sku", "public"."products"."name" FROM "public"."products" WHERE ("public"."products"."id" = $1 AND 1=1) LIMIT $2 OFFSET $3',
        values: [3, 1, 0],
      },
      {
        sql: 'SELECT "public"."products"."id" FROM "public"."products" WHERE "public"."products"."sku"::text LIKE $1 ORDER BY "public"."products"."id" ASC LIMIT $2 OFFSET $3',
        values: ['SKU-1%', 10, 0],
      },
      {
        sql: 'SELECT "public"."orders"."id", "public"."orders"."total" FROM "public"."orders" WHERE "public"."orders"."customer_id" IN ($1,$2) ORDER BY 1 OFFSET $3',
        values: [1, 2, 0],
      },
      {
        sql: 'SELECT COUNT(*) FROM (SELECT "public"."products"."id" FROM "public"."products" WHERE 1=1 OFFSET $1) AS "sub"',
        values: [0],
      },
      {
        sql: 'SELECT "public"."customers"."id", "public"."customers"."name", "public"."customers"."email", "public"."customers"."ssn" FROM "public"."customers" WHERE "public"."customers"."id" = $1 LIMIT 1',
        values: [1],
      },
      {
        sql: 'SELECT "t1"."id", "t1"."total", "customers_orders"."__prisma_data__" AS "customer" FROM "public"."orders" AS "t1" LEFT JOIN LATERAL (SELECT JSONB_BUILD_OBJECT(\'id\', "t2"."id", \'name\', "t2"."name") AS "__prisma_data__" FROM "public"."customers" AS "t2" WHERE "t1"."customer_id" = "t2"."id" LIMIT $1) AS "customers_orders" ON TRUE ORDER BY "t1"."id"',
        values: [1],
      },
      {
        sql: 'SELECT "public"."products"."active", SUM("public"."products"."price") FROM "public"."products" WHERE 1=1 GROUP BY "public"."products"."active" OFFSET $1',
        values: [0],
      },
      {
        sql: 'SELECT "public"."Account"."id"::text, "public"."Account"."displayName" FROM "public"."Account" WHERE "public"."Account"."id" = CAST($1::text AS UUID)',
        values: ['11111111-1111-4111-8111-111111111111'],
      },
    ],
  },
  {
    program: 'Hibernate',
    statements: [
      {
        sql: 'select p1_0.id,p1_0.name,p1_0.price,p1_0.sku from public.products p1_0 where p1_0.id=$1',
        values: [2],
      },
      {
        sql: 'select o1_0.id,o1_0.customer_id,c1_0.id,c1_0.name,o1_0.note,o1_0.total from public.orders o1_0 left join public.customers c1_0 on c1_0.id=o1_0.customer_id where o1_0.id=$1',
        values: [1],
      },
      'select p1_0.id,p1_0.sku from public.products p1_0 order by p1_0.price desc offset 2 rows fetch first 5 rows only',
      {
        sql: "select count(p1_0.id) from public.products p1_0 where lower(p1_0.name) like $1 escape ''",
        values: ['%uct 1%'],
      },
      "select nextval('public.orders_id_seq')",
      {
        sql: 'select p1_0.id from public.products p1_0 where p1_0.id=$1 for no key update',
        values: [1],
      },
      {
        sql: 'select p1_0.id from public.products p1_0 where p1_0.id=$1 for update nowait',
        values: [1],
      },
      'select i1_0.order_id,i1_0.product_id,i1_0.status from public.order_items i1_0 where (i1_0.order_id,i1_0.product_id) in ((1,1),(2,3)) order by 1',
      "select cast(o1_0.total as varchar(20)), coalesce(o1_0.note,'none'), extract(year from current_date) > 2000 from public.orders o1_0 order by 1",
      'select distinct c1_0.name from public.customers c1_0 where exists(select 1 from public.orders o1_0 where o1_0.customer_id=c1_0.id and o1_0.total>5) order by 1',
    ],
  },
  {
    program: 'Metabase',
    statements: [
      'SELECT "public"."products"."id" AS "id", "public"."products"."sku" AS "sku", "public"."products"."price" AS "price" FROM "public"."products" ORDER BY 1 LIMIT 2000',
      'SELECT CAST(DATE_TRUNC(\'month\', "public"."products"."created_at") AS DATE) AS "created_at", COUNT(*) AS "count" FROM "public"."products" GROUP BY CAST(DATE_TRUNC(\'month\', "public"."products"."created_at") AS DATE) ORDER BY 1 ASC',
      '-- Metabase:: userID: 1 queryType: MBQL queryHash: 0a1b\nSELECT "source"."status" AS "status", SUM("source"."quantity") AS "sum" FROM (SELECT "public"."order_items"."status", "public"."order_items"."quantity" FROM "public"."order_items") AS "source" GROUP BY "source"."status" ORDER BY "source"."status"',
      'SELECT "public"."orders"."id" AS "id", "Customers"."name" AS "Customers__name" FROM "public"."orders" LEFT JOIN "public"."customers" AS "Customers" ON "public"."orders"."customer_id" = "Customers"."id" ORDER BY 1 LIMIT 1048575',
      'SELECT FLOOR("public"."products"."price" / 10.0) * 10.0 AS "bin", COUNT(*) FROM "public"."products" GROUP BY 1 ORDER BY 1',
      'SELECT SUBSTRING("public"."products"."name", 1, 1234) AS "substring" FROM "public"."products" ORDER BY 1 LIMIT 10000',
      'SELECT COUNT(DISTINCT "public"."orders"."customer_id"), MIN("public"."orders"."total"), MAX("public"."orders"."total") FROM "public"."orders"',
      'WITH "q" AS (SELECT "public"."products"."price" AS p FROM "public"."products") SELECT PERCENTILE_CONT(0.5) within group (order by "q"."p") FROM "q"',
      'SELECT "public"."customers".* FROM "public"."customers" ORDER BY 1 LIMIT 5',
      'SELECT 1 AS "delete", 2 AS "drop", 3 AS truncate, \'delete from orders\' AS "text; drop table orders"',
    ],
  },
  {
    program: 'Rails',
    statements: [
      {
        sql: 'SELECT "products".* FROM "products" WHERE "products"."id" = $1 LIMIT $2',
        values: [1, 1],
      },
      'SELECT 1 AS one FROM "products" WHERE "products"."sku" = \'SKU-1\' LIMIT 1',
      'SELECT COUNT(*) AS "count_all", "order_items"."status" AS "order_items_status" FROM "order_items" GROUP BY "order_items"."status" ORDER BY 2',
      'SELECT "orders".* FROM "orders" INNER JOIN "order_items" ON "order_items"."order_id" = "orders"."id" WHERE "order_items"."status" = \'sent\' ORDER BY "orders"."id" DESC',
      'SELECT "products"."sku" FROM "products" WHERE "products"."attributes" @> \'{"colour":"red"}\' ORDER BY 1',
      'SELECT "products"."sku" FROM "products" WHERE \'all\' = ANY(tags) AND (price BETWEEN 3 AND 9) ORDER BY 1',
      'SELECT "orders".* FROM "orders" WHERE "orders"."id" = 1 LIMIT 1 FOR UPDATE',
      'SELECT SUM("orders"."total") FROM "orders"',
      'EXPLAIN SELECT "orders".* FROM "orders"',
    ],
  },
  {
    program: 'Django',
    statements: [
      'SELECT "products"."id", "products"."sku" FROM "products" WHERE UPPER("products"."name"::text) LIKE UPPER(\'%ODUCT 2%\') ORDER BY "products"."id" ASC LIMIT 21',
      'SELECT COUNT(*) AS "__count" FROM "orders"',
      'SELECT "orders"."customer_id", AVG("orders"."total") AS "avg" FROM "orders" GROUP BY "orders"."customer_id" HAVING COUNT("orders"."id") > 0 ORDER BY 1',
      'SELECT 1 AS "a" FROM "products" WHERE NOT "products"."active" LIMIT 1',
      'SELECT "products"."id", CASE WHEN "products"."price" > \'10\' THEN \'dear\' ELSE \'cheap\' END AS "kind" FROM "products" ORDER BY 1 LIMIT 4',
      'SELECT "products"."id" FROM "products" WHERE ("products"."created_at" AT TIME ZONE \'UTC\')::date = \'2024-01-01\'::date ORDER BY 1',
      'DECLARE "_django_curs_1_sync_1" NO SCROLL CURSOR WITH HOLD FOR SELECT "products"."id" FROM "products" ORDER BY 1',
      'FETCH FORWARD 5 FROM "_django_curs_1_sync_1"',
      'CLOSE "_django_curs_1_sync_1"',
      'SELECT "products"."id", ROW_NUMBER() OVER (PARTITION BY "products"."active" ORDER BY "products"."price" DESC) AS "rank" FROM "products" ORDER BY 1',
      'SELECT "products"."id", ("products"."attributes" #> \'{size}\') AS "size", ("products"."attributes" ->> \'colour\') FROM "products" ORDER BY 1 LIMIT 3',
    ],
  },
  {
    program: 'SQLAlchemy',
    statements: [
      'SELECT products.id, products.sku, products.price \nFROM products \nWHERE products.price > 12.0 ORDER BY products.id \n LIMIT 5 OFFSET 1',
      {
        sql: 'SELECT anon_1.id FROM (SELECT orders.id AS id FROM orders WHERE orders.total > $1::NUMERIC) AS anon_1 ORDER BY anon_1.id',
        values: ['1'],
      },
      {
        sql: 'SELECT public.orders.id AS public_orders_id FROM public.orders WHERE public.orders.id IN (SELECT order_items.order_id FROM public.order_items AS order_items WHERE order_items.quantity > $1) ORDER BY 1',
        values: [1],
      },
      'WITH RECURSIVE tree(n) AS (SELECT 1 AS n UNION ALL SELECT tree.n + 1 FROM tree WHERE tree.n < 4) SELECT tree.n FROM tree',
      "SELECT string_agg(products.sku, ',' ORDER BY products.id) AS s, array_agg(products.id ORDER BY products.id) FROM products WHERE products.id < 4",
      'SELECT orders.id FROM orders UNION SELECT products.id FROM products ORDER BY 1 LIMIT 3',
      'SELECT orders.id FROM orders EXCEPT SELECT order_items.order_id FROM order_items',
      'SELECT count(*) FILTER (WHERE products.active) AS a, bool_and(products.active), jsonb_object_agg(products.sku, products.price) FROM products WHERE products.id IN (1, 2)',
      { sql: 'SELECT public.plus($1::INTEGER, $2::INTEGER) AS plus_1', values: [1, 2] },
    ],
  },
  {
    program: 'node-postgres, Drizzle and Knex',
    statements: [
      {
        sql: 'select "id", "sku", "tags", "attributes" from "products" where "products"."id" = any($1) order by "id"',
        values: [[1, 2, 3]],
      },
      {
        sql: 'select "recent_orders"."id", "recent_orders"."total" from "recent_orders" order by "recent_orders"."id" limit $1',
        values: [5],
      },
      {
        sql: 'select json_build_array("id", "name") as "data" from "customers" "c" order by "c"."id" limit $1',
        values: [2],
      },
      {
        sql: 'select * from "Account" where "createdAt" < $1 order by "id"',
        values: [new Date('2025-01-01T00:00:00Z')],
      },
      {
        sql: 'select * from products where attributes @> $1 order by id',
        values: [JSON.stringify({ size: 3 })],
      },
      "values (1, 'a'), (2, 'b')",
      'table public.recent_orders',
      {
        sql: 'select $1::text as a, $2::int[] as b, $3::jsonb as c, $4::timestamptz as d',
        values: ['x', [1, 2], '{"a":1}', new Date(0)],
      },
      'select 1; select 2; select 3',
      'select id from products where id = 1; select id from orders where id = 1',
    ],
  },
  {
    program: 'pgx, psycopg and JDBC',
    statements: [
      'copy (select id, sku, price from public.products order by id) to stdout (format binary)',
      'copy public.products (id, sku) to stdout with (format csv, header true)',
      'copy (select id, name, ssn from public.customers order by id) to stdout',
      'prepare "_pg3_0" (int) as select sku from products where id = $1',
      'execute "_pg3_0" (7)',
      'deallocate "_pg3_0"',
      'begin',
      'declare c1 scroll cursor for select id from public.products order by id',
      'fetch 3 from c1; fetch backward 1 from c1; fetch absolute 10 from c1; move 2 in c1',
      'close c1',
      'commit',
      {
        sql: 'select id, price, weight, photo, created_at, updated_at from products where id = $1',
        values: [4],
      },
      "select i, i % 3 = 0, md5(i::text), to_char(i, '000'), i::numeric / 7, point(i, i) from generate_series(1, 3) i",
      "select xmlparse(document '<a>1</a>'), '{1,2}'::int[], row(1, 'a'), interval '1 day 2 hours', '10.0.0.0/8'::cidr",
      'select "Account".id, lower(span), upper(valid), age, host(ip) from public."Account" order by 1',
      'explain (analyze, costs off, timing off, summary off, buffers off) select id from public.products where id = 1',
      'select * from public.products tablesample system (100) order by id limit 2',
      "select to_tsvector('english', name) @@ plainto_tsquery('product') from products order by id limit 1",
    ],
  },
  {
    program: 'Grafana',
    statements: [
      'SELECT floor(extract(epoch from created_at)/60)*60 AS "time", avg(price) AS "price" FROM public.products WHERE created_at BETWEEN \'2023-12-01T00:00:00Z\' AND \'2024-12-01T00:00:00Z\' GROUP BY 1 ORDER BY 1',
      "SELECT date_trunc('hour', created_at) AS time, sku AS metric, price AS value FROM products WHERE extract(epoch from created_at) >= 0 ORDER BY 1, 2",
      "SELECT generate_series('2024-01-01'::timestamptz, '2024-01-01 03:00'::timestamptz, '1 hour') AS time",
      'SELECT count(*) AS "delete" FROM orders WHERE note = \'drop table orders\'',
    ],
  },
];
