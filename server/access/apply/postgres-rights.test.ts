import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  type Grant,
  GrantSchema,
  PostgresRightsSchema,
  ResourceSchema,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../../runtime/fault.ts';
import { AccessWorld, documents, grantYaml } from '../../../test/fixtures/access-world.ts';
import { withGrantNames } from '../grant-names.ts';
import { narrows } from './narrows.ts';

const BACKEND = `kind: Backend
type: postgres
name: shop
environment: test
postgres:
  host: 127.0.0.1
  database: shop
  login: { user: writ_gateway, password_file: /etc/writ/p }
`;
const CLASSES = `kind: ColumnClass
name: email
mask: email
---
kind: ColumnClass
name: joined
mask: hash
---
kind: ColumnClass
name: open
mask: none
---
kind: Columns
name: people
backend: shop
tables:
  public.customers: { email: email, ssn: joined, city: open }
`;

describe("a grant's rights in PostgreSQL, by what apply says", () => {
  let world: AccessWorld;
  before(async () => {
    world = await AccessWorld.create();
  });

  const cases: readonly [what: string, postgres: string, expected: RegExp | undefined][] = [
    [
      'columns',
      'columns: { public.orders: { select: [id, total], update: [status] } }, statements: [read, write]',
      undefined,
    ],
    [
      'rules and what is recorded',
      'select: [public.orders], rules: { tables: [audit, public.log], functions: [pg_sleep], copy: false }, recording: { rows: true }',
      undefined,
    ],
    ['full rights', 'select: [public.orders], statements: [any]', undefined],
    ['any beside others', 'select: [public.orders], statements: [any, read]', /any stands alone/],
    [
      'unbounded without write',
      'select: [public.orders], statements: [read, unbounded]',
      /expected write beside unbounded/,
    ],
    [
      'P8 settings that a DO block could set',
      'select: [public.orders], statements: [read, do], settings: { app.tenant: "7" }',
      /a grant with do or any cannot keep settings/,
    ],
    ['a rule on no name', 'select: [public.orders], rules: { tables: ["a.b.c"] }', /a name or/],
    ['a class that is none', 'select: [public.orders], statements: [all]', /listen or any/],
    ['functions alone', 'execute: ["public.refund(integer, numeric)"]', undefined],
    ['a function without its types', 'execute: [public.refund]', /a function as `schema.name/],
    [
      'a function of the server',
      'execute: ["pg_catalog.pg_sleep(integer)"]',
      /not of the database/,
    ],
    ['a function with more', 'execute: ["public.f(integer) to x"]', /a function as/],
    ['a sequence', 'sequences: [public.invoice_no], statements: [write]', undefined],
    [
      'a sequence without the class write',
      'sequences: [public.invoice_no]',
      /postgres.sequences: expected write among statements$/,
    ],
    [
      'to update a column without the class write',
      'columns: { public.orders: { update: [status] } }',
      /postgres.columns.public.orders.update: expected write among statements$/,
    ],
    [
      'to update a table with classified columns',
      'update: [public.customers], statements: [write]',
      undefined,
    ],
    [
      'P2 to update a classified column that it does not name twice',
      'columns: { public.customers: { update: [email] } }, statements: [write]',
      /update.0: public.customers.email is classified: name it under write too$/,
    ],
    [
      'P2 to update a classified column',
      'columns: { public.customers: { update: [email] } }, write: [public.customers.email], statements: [write]',
      undefined,
    ],
    [
      'P2 to update a column whose class lets it be seen',
      'columns: { public.customers: { update: [city] } }, statements: [write]',
      undefined,
    ],
    [
      'P2 to write a masked column of a table that it does not write',
      'select: [public.customers], write: [public.customers.email], statements: [write]',
      /postgres.write.0: expected public.customers in insert, update or columns$/,
    ],
    [
      'P2 to write a column under write that is not classified',
      'update: [public.customers], write: [public.customers.name], statements: [write]',
      /postgres.write.0: public.customers.name is not classified$/,
    ],
    [
      'P4 to write a column that is shown as a hash',
      'update: [public.customers], write: [public.customers.ssn], statements: [write]',
      /postgres.write.0: public.customers.ssn is shown as a hash: it cannot be written$/,
    ],
    ['P6 ddl', 'ddl: { owner: shop_ddl, schemas: [reporting] }, statements: [ddl]', undefined],
    ['P6 ddl without an owner', 'select: [a.b], statements: [ddl]', /expected ddl: an owner/],
    [
      'P6 an owner without ddl',
      'ddl: { owner: shop_ddl, schemas: [reporting] }',
      /postgres.ddl: expected ddl among statements$/,
    ],
    [
      'P6 an owner that is a role of the server',
      'ddl: { owner: pg_monitor, schemas: [reporting] }, statements: [ddl]',
      /begins with neither pg_ nor writ_/,
    ],
    ['P8 settings', 'select: [a.b], settings: { app.tenant: "7" }', undefined],
    ['P8 a setting of the server', 'select: [a.b], settings: { role: x }', /a custom setting/],
    ['P8 a setting of Writ', 'select: [a.b], settings: { writ.reason: x }', /a custom setting/],
    [
      'P8 settings beside ddl, which could change them',
      'ddl: { owner: o, schemas: [s] }, settings: { app.tenant: "7" }, statements: [ddl]',
      /postgres.settings: a grant with ddl cannot keep settings$/,
    ],
  ];
  for (const [what, postgres, expected] of cases) {
    it(`${expected === undefined ? 'takes' : 'refuses'} ${what}`, async () => {
      const applied = world.apply(documents(BACKEND, CLASSES, grantYaml('g', { postgres })), {
        dryRun: true,
      });
      if (expected === undefined) {
        await applied;
        return;
      }
      await assert.rejects(applied, (error: unknown) => {
        assert.ok(error instanceof Fault && error.code === 'CONFIG_INVALID', String(error));
        assert.equal(error.message.split('\n').length, 1, error.message);
        assert.match(error.message, expected);
        return true;
      });
    });
  }

  it('P6 refuses one owner for two grants', async () => {
    const postgres = 'ddl: { owner: shop_ddl, schemas: [reporting] }, statements: [ddl]';
    const two = ['one', 'two'].map((name) => grantYaml(name, { postgres }));
    await assert.rejects(world.apply(documents(BACKEND, ...two), { dryRun: true }), {
      message: /shop_ddl is the owner of grant (one|two): each has its own/,
    });
  });
});

/** A plain form: a message itself cannot be spread into another. */
type RightsInit = Omit<MessageInitShape<typeof PostgresRightsSchema>, '$typeName'>;

const RIGHTS: RightsInit = {
  select: ['public.orders'],
  columns: [{ table: 'public.customers', select: ['id', 'name'], update: ['name'] }],
  writeMasked: ['public.customers.email'],
  execute: ['public.f(integer)'],
  sequences: ['public.s'],
  ddlOwner: { role: 'o', schemas: ['a', 'b'] },
  settings: { 'app.tenant': '7' },
  statements: ['read', 'write'],
};

const grantOf = (change: RightsInit): Grant =>
  create(GrantSchema, {
    name: 'g',
    identity: 'spiffe://example.org/g',
    backend: 'shop',
    rights: { case: 'postgres', value: create(PostgresRightsSchema, { ...RIGHTS, ...change }) },
  });

const CHANGES: readonly [what: string, change: RightsInit, narrower: boolean][] = [
  [
    'a column to read',
    { columns: [{ table: 'public.customers', select: ['id'], update: ['name'] }] },
    true,
  ],
  ['a column to write', { columns: [{ table: 'public.customers', select: ['id', 'name'] }] }, true],
  ['a masked column to write', { writeMasked: [] }, true],
  ['a function', { execute: [] }, true],
  ['a sequence', { sequences: [] }, true],
  ['the owner', { ddlOwner: { role: 'p', schemas: ['a', 'b'] } }, true],
  ['a schema', { ddlOwner: { role: 'o', schemas: ['a'] } }, true],
  ['a value of a setting', { settings: { 'app.tenant': '8' } }, true],
  ['one more function', { execute: ['public.f(integer)', 'public.g()'] }, false],
  ['one more schema', { ddlOwner: { role: 'o', schemas: ['b', 'a', 'c'] } }, false],
];

describe('a change of rights in PostgreSQL', () => {
  for (const [what, change, narrower] of CHANGES) {
    it(`${narrower ? 'ends' : 'keeps'} sessions and changes the names: ${what}`, () => {
      const nameOf = (grant: Grant) => {
        const body = { case: 'grant', value: grant } as const;
        const [named] = withGrantNames([create(ResourceSchema, { name: 'g', body })]);
        const value = named?.body.value as Grant;
        return value.rights.case === 'postgres' ? value.rights.value.groupRole : undefined;
      };
      assert.equal(narrows(grantOf({}), grantOf(change)), narrower);
      assert.match(nameOf(grantOf({})) ?? '', /^writ_g_[0-9a-f]{16}$/);
      assert.notEqual(nameOf(grantOf({})), nameOf(grantOf(change)));
    });
  }
});
