import assert from 'node:assert/strict';
import { Fault } from '../../../runtime/fault.ts';
import {
  AccessWorld,
  BACKEND,
  CLASSES,
  documents,
  grantYaml,
} from '../../../test/fixtures/access-world.ts';

/** One document of each kind and type. */
const SHOP = `kind: Backend
name: shop
type: postgres
environment: production
on_stale: standard
postgres:
  host: db.internal
  port: 5432
  database: shop
  layout: front
  login: { user: writ_gateway, password_file: /etc/writ/shop.password }
  tls: { ca_file: /etc/writ/shop-ca.pem, server_name: db.internal }
---
kind: ColumnClass
name: national-id
mask: last4
---
kind: Columns
name: shop-people
backend: shop
tables:
  public.customers: { ssn: national-id }
---
kind: Backend
name: web-1
type: ssh
environment: production
ssh:
  address: web-1.internal:22
  host_ca: trust-domain
  logins: { deploy: { account: deploy } }
---
kind: Grant
name: reporting-reads-shop
identity: spiffe://example.org/reporting
backend: shop
owner: ana@example.org
purpose: nightly revenue report
expires_at: 2099-03-31T00:00:00Z
session:
  maximum: 8h
  renewable: true
  rows: 1000000
  bytes: 5000000
  errors: 5
  idle_in_transaction: 1m
  per_day: { statements: 1000, duration: 2h }
postgres:
  select: [public.orders, public.customers]
  statements: [read]
---
kind: Grant
name: ci-deploys-web
identity: spiffe://example.org/ci/deploy
backend: web-1
owner: platform@example.org
purpose: release job
expires_at: 2099-03-31T00:00:00Z
session: { maximum: 30m }
ssh:
  logins: [deploy]
  channels: { exec: [[systemctl, restart, shop]], sftp: true }
`;

describe('readDocuments and checkDeclarations, by what apply says', () => {
  let world: AccessWorld;
  before(async () => {
    world = await AccessWorld.create();
  });

  const problems = async (...parts: readonly string[]): Promise<string[]> => {
    const error = await world.apply(documents(...parts), { dryRun: true }).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (error === undefined) return [];
    assert.ok(error instanceof Fault && error.code === 'CONFIG_INVALID', String(error));
    return error.message.split('\n');
  };

  it('takes documents of every kind and type', async () => {
    assert.deepEqual(await problems(SHOP), []);
  });

  const postgres = (change: (yaml: string) => string) => change(BACKEND);
  const cases: readonly [what: string, yaml: string, expected: readonly RegExp[]][] = [
    ['an unknown kind', 'kind: Bakend\nname: x', [/^shop.yaml:1: kind: expected .*"Backend"/]],
    ['a document that is no map', '- 1', [/^shop.yaml:1: expected /]],
    [
      'an unknown key',
      postgres((yaml) => yaml.replace('port:', 'prot:')),
      [/^shop.yaml:8: postgres.prot: expected no such key/],
    ],
    [
      'several problems, all at once',
      postgres((yaml) =>
        yaml.replace('5432', 'many').replace('name: shop', 'name: Shop').replace('/etc', 'etc'),
      ),
      [
        /^shop.yaml:3: name: expected a name/,
        /^shop.yaml:8: postgres.port: expected number, got "many"/,
        /^shop.yaml:10: postgres.login.password_file: expected an absolute path/,
      ],
    ],
    [
      'a database elsewhere without TLS',
      postgres((yaml) => yaml.replace('127.0.0.1', 'db.internal')),
      [/^shop.yaml:6: postgres: expected tls: only a loopback host may go without$/],
    ],
    [
      'a name that only looks like a loopback address',
      postgres((yaml) => yaml.replace('127.0.0.1', '127.0.0.1.example.org')),
      [/expected tls/],
    ],
    [
      'a host with its port',
      postgres((yaml) => yaml.replace('127.0.0.1', 'localhost:5432')),
      [/^shop.yaml:7: postgres.host: expected a host name or IP address, got "localhost:5432"/],
    ],
    [
      "columns of the database's own tables, and of a bare one",
      documents(
        BACKEND,
        CLASSES.replace('public.customers:', 'pg_catalog.pg_authid: {}\n  customers:'),
      ),
      [
        /^shop.yaml:22: tables.pg_catalog.pg_authid: expected a table of the application's/,
        /^shop.yaml:23: tables.customers: expected a table as `schema.table`, got "customers"/,
      ],
    ],
    [
      'a name that PostgreSQL would cut',
      documents(BACKEND, CLASSES.replace('ssn:', `${'s'.repeat(64)}:`)),
      [/^shop.yaml:22: tables.public.customers.s{64}: expected the name of a column, got "s/],
    ],
    [
      'names that need quotes',
      documents(
        postgres((yaml) => yaml.replace('database: shop', 'database: shop-db')),
        CLASSES.replace('ssn:', 'Größe in cm:').replace('public.customers', 'public.Order Lines'),
      ),
      [],
    ],
    [
      'the layout in-place',
      postgres((yaml) => yaml.replace('database: shop', 'database: shop\n  layout: in-place')),
      [],
    ],
    [
      'a layout that is none',
      postgres((yaml) => yaml.replace('database: shop', 'database: shop\n  layout: behind')),
      [/^shop.yaml:10: postgres.layout: expected front or in-place/],
    ],
    ['the mask hash', 'kind: ColumnClass\nname: x\nmask: hash', []],
    ['the mask range', 'kind: ColumnClass\nname: x\nmask: range\nrange_size: 1000', []],
    [
      'a range without a size',
      'kind: ColumnClass\nname: x\nmask: range',
      [/^shop.yaml:1: range_size: expected a range_size where the mask is range/],
    ],
    [
      'a size without a range',
      'kind: ColumnClass\nname: x\nmask: hash\nrange_size: 10',
      [/^shop.yaml:4: range_size: expected a range_size where the mask is range, and there alone/],
    ],
    [
      'a mask that is none',
      'kind: ColumnClass\nname: x\nmask: rot13',
      [/^shop.yaml:3: mask: expected full, last4, email, null, year, hash, range or none/],
    ],
    ['the mask null', 'kind: ColumnClass\nname: x\nmask: null', []],
    [
      'a class and a backend that are not there',
      CLASSES.replace('ssn: national-id', 'ssn: nothing'),
      [
        /^shop.yaml:8: backend: no backend shop is declared$/,
        /^shop.yaml:10: tables.public.customers.ssn: no column class nothing is declared$/,
      ],
    ],
    [
      'a column in two classes',
      documents(
        BACKEND,
        CLASSES,
        CLASSES.replaceAll('shop-people', 'more').split('---\n')[1] ?? '',
      ),
      [/tables.public.customers.ssn: the column is in a class already$/],
    ],
    [
      'a column that a record would drop without a word',
      documents(BACKEND, CLASSES.replace('ssn:', 'constructor:')),
      [/^shop.yaml:22: tables.public.customers.constructor: expected no column named __proto__,/],
    ],
    [
      'one resource twice',
      documents(BACKEND, BACKEND),
      [/^shop.yaml:\d+: name: Backend shop is declared twice$/],
    ],
    ['a text that is no YAML', 'kind: [', [/^shop.yaml:1: /]],
    ['a key twice', 'kind: Grant\nkind: Grant', [/^shop.yaml:2: expected each key once/]],
  ];
  for (const [what, yaml, expected] of cases) {
    const verb = expected.length === 0 ? 'takes' : 'refuses';
    it(`${verb} ${what}${expected.length === 0 ? '' : ', by file, line and path'}`, async () => {
      const lines = await problems(yaml);
      assert.equal(lines.length, expected.length, lines.join('\n'));
      for (const [index, pattern] of expected.entries()) assert.match(lines[index] ?? '', pattern);
    });
  }

  const grants: readonly [what: string, yaml: string, expected: RegExp][] = [
    ['without a zone', grantYaml('g', { expires: '2099-01-01T00:00:00' }), /expires_at: .*zone/],
    ['on a day', grantYaml('g', { expires: '2099-01-01' }), /expires_at: .*zone/],
    ['on a day that is none', grantYaml('g', { expires: '2099-02-30T00:00:00Z' }), /expires_at: /],
    ['that has ended', grantYaml('g', { expires: '2020-01-01T00:00:00Z' }), /in the future$/],
    [
      'longer than the server allows',
      grantYaml('g', {}).replace('1h', '9h'),
      /session.maximum: expected at most 8h, the server's maximum$/,
    ],
    ['for no SPIFFE ID', grantYaml('g', { identity: 'a//b' }), /identity: expected a SPIFFE ID/],
    [
      'for another trust domain',
      grantYaml('g', {}).replace('spiffe://example.org', 'spiffe://example.com'),
      /identity: expected an identity of trust domain example.org$/,
    ],
    ['for a gateway', grantYaml('g', { identity: 'writ/gateway/main' }), /are reserved$/],
    ['for an agent', grantYaml('g', { identity: 'spire/agent/x' }), /are reserved$/],
    ['of a bare table', grantYaml('g', { postgres: 'select: [orders]' }), /`schema.table`/],
    [
      'of the catalog',
      grantYaml('g', { postgres: 'select: [pg_catalog.pg_authid]' }),
      /not of the/,
    ],
    ["of Writ's tables", grantYaml('g', { postgres: 'select: [writ.session]' }), /not of the/],
    ['of a table twice', grantYaml('g', { postgres: 'select: [a.b, a.b]' }), /each table once/],
    [
      'of nothing',
      grantYaml('g', { postgres: 'statements: [read]' }),
      /expected a right, e.g. a table in select/,
    ],
    [
      'to write without the class write',
      grantYaml('g', { postgres: 'insert: [public.orders]' }),
      /postgres.insert: expected write among statements$/,
    ],
  ];
  for (const [what, yaml, expected] of grants) {
    it(`refuses a grant ${what}`, async () => {
      const lines = await problems(BACKEND, CLASSES, yaml);
      assert.equal(lines.length, 1, lines.join('\n'));
      assert.match(lines[0] ?? '', expected);
    });
  }

  it('refuses columns that classify what a stored grant writes', async () => {
    const stored = await AccessWorld.create();
    const writes = 'columns: { public.customers: { insert: [ssn] } }, statements: [write]';
    await stored.apply(documents(BACKEND, grantYaml('writes', { postgres: writes })));
    await assert.rejects(stored.apply(CLASSES), {
      code: 'CONFIG_INVALID',
      message: /^stored Grant writes: postgres.columns.public.customers.insert.0: .*is classified/,
    });
  });

  it('complains of a backend once, not again of all that points at it', async () => {
    const broken = BACKEND.replace('type: postgres', 'type: oracle');
    const lines = await problems(broken, CLASSES, grantYaml('g', {}));
    assert.equal(lines.length, 1, lines.join('\n'));
    assert.match(lines[0] ?? '', /^shop.yaml:4: type: expected postgres or ssh, got "oracle"$/);
  });
});
