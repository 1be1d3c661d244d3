/**
 * The demo's shop: people with national ids and cards that belong to nobody (numbers of unassigned
 * areas, and of the range that card networks keep for tests), and their orders.
 */
export const SHOP_SQL = `
begin;
create table customers (
  id integer generated always as identity primary key,
  name text not null,
  email text not null,
  ssn text not null,
  card_number text not null,
  city text not null,
  joined_on date not null
);
create table orders (
  id integer generated always as identity primary key,
  customer_id integer not null references customers,
  total numeric(10, 2) not null,
  status text not null,
  placed_at timestamptz not null
);
create index on orders (customer_id);
insert into customers (name, email, ssn, card_number, city, joined_on)
select first || ' ' || last,
       lower(first || '.' || last) || n || '@shop.example',
       format('9%s-%s-%s', lpad((n * 7 % 100)::text, 2, '0'), lpad((n * 13 % 90 + 10)::text, 2, '0'),
              lpad((n * 7919 % 10000)::text, 4, '0')),
       '424242' || lpad((n::bigint * 104729 % 10000000000)::text, 10, '0'),
       (array['Lisbon', 'Oslo', 'Vienna', 'Porto', 'Ghent'])[n % 5 + 1],
       date '2021-01-01' + n * 3
from (select n,
             (array['Ana', 'Ben', 'Chloe', 'Dario', 'Emma', 'Felix', 'Greta'])[n % 7 + 1] as first,
             (array['Silva', 'Berg', 'Moser', 'Costa', 'Peeters', 'Novak'])[n % 6 + 1] as last
      from generate_series(1, 200) as n) as people;
insert into orders (customer_id, total, status, placed_at)
select n % 200 + 1, (n * 37 % 50000) / 100.0 + 5, (array['paid', 'sent', 'returned'])[n % 3 + 1],
       timestamptz '2026-01-01 00:00:00+00' + n * interval '3 hours'
from generate_series(1, 2000) as n;
analyze customers;
analyze orders;
commit;
`;
