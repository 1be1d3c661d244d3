import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { type Resource, ResourceSchema } from '../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../test/fixtures/each-postgres.ts';
import { callersGrant, reachBackend, setUpEach } from '../test/fixtures/reach-gateway.ts';
import { SHOP_SQL, shopClasses, shopColumns } from '../test/fixtures/shop-database.ts';
import { backendDatabase } from './backend-database.ts';
import { withPostgres } from './postgres-catalog.ts';
import { checkPostgres } from './postgres-check.ts';
import { declaredBackend } from './postgres-check-subject.ts';

const GRANTS = [
  callersGrant('reads-customers', { select: ['public.customers'] }),
  callersGrant('makes-reports', {
    select: ['public.customers'],
    database: 'billing',
    statements: ['read', 'ddl'],
    ddlOwner: { role: 'billing_reports', schemas: ['reporting'] },
  }),
];

onEachPostgres('checkPostgres of several databases', (server) => {
  it('P9: finds nothing critical in either, whichever was set up last', async () => {
    await server().exec('create database shop_db');
    await server().exec('create database billing_db');
    for (const database of ['shop_db', 'billing_db']) await server().exec(SHOP_SQL, database);
    await server().exec('create schema reporting', 'billing_db');
    const backend = reachBackend('shop', '/nonexistent', {
      host: server().host,
      port: server().port,
      database: 'shop_db',
      databases: { billing: 'billing_db' },
    });
    await setUpEach(server(), ['shop_db', 'billing_db'], backend, GRANTS);
    const resources: Resource[] = [
      { case: 'backend' as const, value: backend },
      ...GRANTS.map((value) => ({ case: 'grant' as const, value })),
      ...shopColumns.map((value) => ({ case: 'columns' as const, value })),
      ...shopClasses.map((value) => ({ case: 'columnClass' as const, value })),
    ].map((body) => create(ResourceSchema, { name: body.value.name, body }));
    for (const database of ['shop', 'billing']) {
      const declared = declaredBackend('shop', resources, (one) =>
        backendDatabase({ database }, 'shop', one),
      );
      const url = Object.assign(new URL(server().superuserUrl), {
        pathname: `/${declared.database}`,
      });
      const findings = await withPostgres({ connectionString: url.href }, (client) =>
        checkPostgres(client, declared),
      );
      const bad = findings.filter(
        ({ severity, check }) => severity === 'critical' || check === 'drift' || check === 'setup',
      );
      assert.deepEqual(bad, []);
    }
  });
});
