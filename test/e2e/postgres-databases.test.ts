import assert from 'node:assert/strict';
import { join } from 'node:path';
import pg from 'pg';
import { asSuperuser, listSessions, untilNoSessionRoles } from '../fixtures/shop-catalog.ts';
import {
  applyDocuments,
  grantDocument,
  makeWorkload,
  type Workload,
} from '../fixtures/workload.ts';
import { type Outcome, type RunningUp, runWrit, startUp } from '../fixtures/writ-up.ts';

const SQL = `create table people (id int primary key, ssn text);
  insert into people values (1, '536-22-8726')`;
const PASSWORD_FILE = 'gateway/shop.password';

describe('a backend with several databases', () => {
  let up: RunningUp;
  let workload: Workload;
  before(async function () {
    this.timeout(90_000);
    up = await startUp();
    workload = await makeWorkload(up, 'accountant');
    for (const database of ['store_db', 'billing_db']) {
      await asSuperuser(up, `create database ${database}`);
      await inDatabase(database, SQL);
    }
    await applyDocuments(up, documents());
    for (const names of [
      ['store', 'store_db'],
      ['billing', 'billing_db'],
    ] as const) {
      const [name, database] = names;
      const plan = await writ('setup', 'store', '--database', name);
      assert.equal(plan.status, 0, plan.stderr);
      await inDatabase(database, plan.stdout);
    }
  });
  after(async function () {
    this.timeout(30_000);
    await workload?.[Symbol.asyncDispose]();
    await up?.[Symbol.asyncDispose]();
  });

  function urlOf(database: string): string {
    const url = new URL(up.json.demo.database_url);
    url.pathname = `/${database}`;
    url.hostname = 'localhost';
    url.searchParams.set('sslmode', 'verify-full');
    url.searchParams.set('sslrootcert', join(up.state, 'postgres-ca.pem'));
    return url.href;
  }

  /** As an administrator of another database of the server: `--database` says which is meant. */
  const writ = (...args: readonly string[]): Promise<Outcome> =>
    runWrit(['backend', ...args], {
      WRIT_ADMIN_SOCKET: up.json.server.admin_socket,
      DATABASE_URL: urlOf('postgres'),
    });

  async function inDatabase(database: string, sql: string): Promise<void> {
    const client = new pg.Client({ connectionString: urlOf(database) });
    await client.connect();
    await client.query(sql).finally(() => client.end());
  }

  function documents(): Record<string, unknown>[] {
    const { spiffeId: identity } = workload;
    const select = ['public.people'];
    const { port } = new URL(up.json.demo.database_url);
    const grant = (name: string, more: Record<string, unknown>) =>
      grantDocument({ name, identity, backend: 'store', postgres: { select, ...more } });
    return [
      {
        ...{ kind: 'Backend', name: 'store', type: 'postgres', environment: 'test' },
        postgres: {
          ...{ host: 'localhost', port: Number(port), database: 'store_db' },
          databases: { billing: 'billing_db' },
          server_names: ['store.db.internal'],
          login: { user: 'writ_gateway', password_file: join(up.state, PASSWORD_FILE) },
          tls: { ca_file: join(up.state, 'postgres-ca.pem'), server_name: 'localhost' },
        },
      },
      { kind: 'ColumnClass', name: 'person-number', mask: 'last4' },
      {
        ...{ kind: 'Columns', name: 'people-of-store', backend: 'store' },
        tables: { 'public.people': { ssn: 'person-number' } },
      },
      grant('reads-store', {}),
      grant('reads-billing', { database: 'billing' }),
      grant('reads-billing-too', { database: 'billing' }),
    ];
  }

  it('S13, G12: leads by dbname and user to one database and one grant', async () => {
    for (const [database, user, name, grant] of [
      ['store', 'anybody', 'store_db', 'reads-store'],
      ['billing', 'reads-billing', 'billing_db', 'reads-billing'],
      ['billing', 'reads-billing-too', 'billing_db', 'reads-billing-too'],
    ] as const) {
      const client = await workload.connect({ database, user });
      const { rows } = await client.query('select current_database() as name, ssn from people');
      assert.deepEqual(rows, [{ name, ssn: '*******8726' }]);
      const open = await listSessions(up, true);
      assert.deepEqual(
        open.map((session) => [session.backend, session.grant]),
        [['store', grant]],
      );
      await client.end();
      await untilNoSessionRoles(up, 20_000);
    }
  }).timeout(60_000);

  it('S13: names the choices, and refuses what is not there', async () => {
    await assert.rejects(workload.connect({ database: 'billing' }), {
      code: '28000',
      message:
        'you hold several grants on "billing": name one of reads-billing, reads-billing-too as the user',
    });
    await assert.rejects(workload.connect({ database: 'billing_db' }), { code: '28000' });
  });

  it('is checked and proved database by database', async () => {
    const check = await writ('check', 'store', '--database', 'billing');
    assert.equal(check.status, 0, check.stdout + check.stderr);
    assert.match(check.stdout, /^warning \[server-name\] store\.db\.internal: /m);
    const proof = await writ('prove', 'store', '--database', 'billing');
    assert.equal(proof.status, 0, proof.stdout + proof.stderr);
    const none = await writ('setup', 'store', '--database', 'archive');
    assert.match(none.stderr, /backend store has no database archive, but store, billing/);
  }).timeout(60_000);
});
