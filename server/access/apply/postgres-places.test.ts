import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  GrantSchema,
  type PostgresBackendSchema,
  type PostgresRightsSchema,
  type Resource,
  ResourceSchema,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../../runtime/fault.ts';
import { AccessWorld, documents, grantYaml } from '../../../test/fixtures/access-world.ts';
import { withGrantNames } from '../grant-names.ts';
import { endOfSessions } from './end-of-sessions.ts';
import { narrows } from './narrows.ts';

const backend = (name: string, lines = '', host = '127.0.0.1') => `kind: Backend
type: postgres
name: ${name}
environment: test
postgres:
  host: ${host}
  database: ${name}
  login: { user: writ_gateway, password_file: /etc/writ/p }
  ${lines}
`;
const TLS = 'tls: { ca_file: /etc/writ/ca.pem, server_name: db.internal }';

describe('where databases are, by what apply says', () => {
  let world: AccessWorld;
  before(async () => {
    world = await AccessWorld.create();
  });

  async function problemsOf(...parts: string[]): Promise<string> {
    try {
      await world.apply(documents(...parts), { dryRun: true });
      return '';
    } catch (error) {
      assert.ok(error instanceof Fault);
      return error.message;
    }
  }

  const cases: readonly [what: string, parts: readonly string[], expected: RegExp | undefined][] = [
    ['more databases', [backend('shop', 'databases: { billing: billing_db }')], undefined],
    [
      'a name of clients with a slash',
      [backend('shop', 'databases: { shop/billing: billing_db }')],
      /postgres\.databases\.shop\/billing: expected a name for clients/,
    ],
    [
      'a name that JavaScript hides',
      [backend('shop', 'databases: { __proto__: billing_db }')],
      /expected a name for clients/,
    ],
    [
      'a database under two names',
      [backend('shop', 'databases: { billing: b, invoices: b }')],
      /databases\.invoices: database b has a name already/,
    ],
    [
      "the backend's own database under another name",
      [backend('shop', 'databases: { store: shop }')],
      /databases\.store: database shop has a name already/,
    ],
    [
      "another backend's name",
      [backend('shop', 'databases: { legacy: l }'), backend('legacy')],
      /databases\.legacy: legacy is the name of backend legacy already/,
    ],
    [
      "a name of another backend's database",
      [backend('shop', 'databases: { bills: b }'), backend('legacy', 'databases: { bills: b }')],
      /databases\.bills: bills is a database of backend (shop|legacy) already/,
    ],
    ['server names', [backend('shop', 'server_names: [Shop.DB.internal]')], undefined],
    [
      'an address for a server name',
      [backend('shop', 'server_names: [10.0.0.1]')],
      /server_names\.0: expected a DNS name/,
    ],
    [
      'a server name of two backends',
      [
        backend('shop', 'server_names: [a.internal, shop.internal]'),
        backend('legacy', 'server_names: [SHOP.internal]'),
      ],
      /server_names\.\d: shop\.internal is a name of backend (shop|legacy)/,
    ],
    [
      'hosts to fail over to, and replicas',
      [
        backend(
          'shop',
          `${TLS}\n  failover: [{ host: b.internal }, { host: c.internal, port: 5433, server_name: c.db }]\n  replicas: [{ host: c.internal, port: 5433 }]`,
          'a.internal',
        ),
      ],
      undefined,
    ],
    [
      'a host twice',
      [backend('shop', 'replicas: [{ host: 127.0.0.1 }, { host: 127.0.0.1, port: 5432 }]')],
      /replicas: expected each host once/,
    ],
    [
      'another host without TLS',
      [backend('shop', 'failover: [{ host: b.internal }]')],
      /expected tls: only a loopback host may go without/,
    ],
    [
      'replicas of a shared account',
      [
        backend(
          'shop',
          'enforce: gateway\n  exception: { owner: a, reason: b, expires_at: 2099-01-01T00:00:00Z }\n  replicas: [{ host: localhost }]',
        ),
      ],
      /replicas: sessions of a shared account are on the primary alone/,
    ],
    [
      'a grant for a database that is there',
      [
        backend('shop', 'databases: { billing: b }'),
        grantYaml('g', { postgres: 'database: billing, select: [public.t]' }),
      ],
      undefined,
    ],
    [
      'a grant for a database that is not',
      [
        backend('shop', 'databases: { billing: b }'),
        grantYaml('g', { postgres: 'database: constructor, select: [public.t]' }),
      ],
      /postgres\.database: backend shop has no database constructor/,
    ],
    [
      'P14 a grant on replicas',
      [
        backend('shop', 'replicas: [{ host: localhost }]'),
        grantYaml('g', { postgres: 'replica: true, select: [public.t]' }),
      ],
      undefined,
    ],
    [
      'P14 a grant on replicas of a backend without',
      [backend('shop'), grantYaml('g', { postgres: 'replica: true, select: [public.t]' })],
      /postgres\.replica: backend shop has no replicas/,
    ],
    [
      'P14 a grant on replicas that writes',
      [
        backend('shop', 'replicas: [{ host: localhost }]'),
        grantYaml('g', {
          postgres: 'replica: true, insert: [public.t], statements: [read, write]',
        }),
      ],
      /postgres\.statements: expected read alone/,
    ],
  ];
  for (const [what, parts, expected] of cases) {
    it(`${expected === undefined ? 'takes' : 'refuses'} ${what}`, async () => {
      const problems = await problemsOf(...parts);
      if (expected === undefined) assert.equal(problems, '');
      else assert.match(problems, expected);
    });
  }
});

describe('a grant that goes to another database', () => {
  const grant = (rights: MessageInitShape<typeof PostgresRightsSchema>) =>
    create(GrantSchema, {
      ...{ name: 'g', identity: 'spiffe://example.org/g', backend: 'shop' },
      rights: { case: 'postgres', value: { select: ['public.t'], ...rights } },
    });
  const shop = (value: MessageInitShape<typeof PostgresBackendSchema>) => {
    const body = { name: 'shop', type: { case: 'postgres' as const, value } };
    return create(ResourceSchema, {
      name: 'shop',
      body: { case: 'backend', value: body as never },
    });
  };
  const roleOf = (database: string, databases: Record<string, string>): string => {
    const body = { case: 'grant' as const, value: grant({ database }) };
    const named = withGrantNames([
      shop({ databases }),
      create(ResourceSchema, { name: 'g', body }),
    ]);
    const found = named.find((one): one is Resource => one.body.case === 'grant')?.body;
    if (found?.case !== 'grant' || found.value.rights.case !== 'postgres') return assert.fail();
    return found.value.rights.value.groupRole;
  };

  it('has other roles there', () => {
    const own = roleOf('', { billing: 'a' });
    assert.equal(roleOf('', {}), own);
    assert.notEqual(roleOf('billing', { billing: 'a' }), own);
    assert.notEqual(roleOf('billing', { billing: 'b' }), roleOf('billing', { billing: 'a' }));
    assert.equal(roleOf('bills', { bills: 'a' }), roleOf('billing', { billing: 'a' }));
  });

  it('ends its live sessions, and so it does when it goes to a replica', () => {
    assert.equal(narrows(grant({}), grant({ database: 'billing' })), true);
    assert.equal(narrows(grant({}), grant({ replica: true })), true);
    assert.equal(narrows(grant({ replica: true }), grant({})), false);
  });

  it('ends no session of a backend that gets a database, host or name more', () => {
    const before = shop({ databases: { billing: 'b' } });
    const after = shop({
      databases: { billing: 'b', archive: 'a' },
      failover: [{ host: 'b.internal', port: 5432 }],
      serverNames: ['shop.internal'],
    });
    assert.equal(endOfSessions({ kind: 'Backend', name: 'shop', before, after }), undefined);
  });
});
