import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'libsql';
import { MIGRATIONS } from './migrations.ts';
import { openSqlite } from './sqlite.ts';

const FIRST = `
insert into authorities
  values ('a', 'x509', 'active', x'01', x'02', 3, 4, 1), ('b', 'jwt', 'old', null, x'05', 6, 7, 0);
insert into ledger
  values ('0a', 'x509', 'spiffe://example.org/a', 'e', 'g', 1, 2), ('0b', 'server', 's', null, null, 3, 4);
insert into sessions (id, gateway_id, backend, grant_name, spiffe_id, svid_serial, entry_id, agent_id,
  owner, purpose, client_address, opened_at_ms, expires_at_ms, lease_ms)
  values ('s', 'gw', 'shop', 'reads', 'spiffe://example.org/a', '0a', 'e', 'g', 'ana', 'p', 'c', 1, 2, 3);
insert into gateways (id, name, backends, names, created_at_ms) values ('gw', 'main', '["*"]', '[]', 5);
`;

describe('MIGRATIONS', () => {
  let directory: string;
  let file: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'writ-migrations-'));
    file = join(directory, 'server.db');
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  /** A store as the program of that version left it. */
  const storeOf = (version: number, rows: string) => {
    const store = new Database(file);
    for (const { sql } of MIGRATIONS.slice(0, version)) store.exec(sql);
    store.exec(rows);
    store.pragma(`user_version = ${version}`);
    store.close();
  };

  const upgraded = () => openSqlite(file, MIGRATIONS, async () => undefined);

  it('counts its versions from 1, without gaps', () => {
    assert.deepEqual(
      MIGRATIONS.map(({ version }) => version),
      MIGRATIONS.map((_, index) => index + 1),
    );
  });

  it('takes a store of version 1 to the newest version with every row it has', async () => {
    storeOf(1, FIRST);
    await using store = await upgraded();
    assert.deepEqual(await store.all('select * from authorities order by id'), [
      {
        ...{ id: 'a', kind: 'x509', state: 'active', certificate: Uint8Array.of(1) },
        ...{ public_key: Uint8Array.of(2), not_before_ms: 3, not_after_ms: 4, tainted: 1 },
        ...{ key_name: '', chain: null, upstream_id: '', tainted_at_ms: null },
      },
      {
        ...{ id: 'b', kind: 'jwt', state: 'old', certificate: null },
        ...{ public_key: Uint8Array.of(5), not_before_ms: 6, not_after_ms: 7, tainted: 0 },
        ...{ key_name: '', chain: null, upstream_id: '', tainted_at_ms: null },
      },
    ]);
    assert.deepEqual(await store.all('select * from ledger order by serial'), [
      {
        ...{ serial: '0a', kind: 'x509', spiffe_id: 'spiffe://example.org/a', entry_id: 'e' },
        ...{ agent_id: 'g', issued_at_ms: 1, not_after_ms: 2, authority_id: '' },
        ...{ revoked_at_ms: null, revocation_reason: null },
      },
      {
        ...{ serial: '0b', kind: 'server', spiffe_id: 's', entry_id: null },
        ...{ agent_id: null, issued_at_ms: 3, not_after_ms: 4, authority_id: '' },
        ...{ revoked_at_ms: null, revocation_reason: null },
      },
    ]);
    assert.deepEqual(await store.all('select id, purpose, login from sessions'), [
      { id: 's', purpose: 'p', login: '' },
    ]);
    assert.deepEqual(await store.all('select id, name, ports from gateways'), [
      { id: 'gw', name: 'main', ports: '{}' },
    ]);
    assert.deepEqual(await store.all('pragma user_version'), [{ user_version: 4 }]);
  });

  it('leaves a store of version 1 as it was if it cannot be taken to a newer version', async () => {
    storeOf(1, `${FIRST} create table new_ledger (a text);`);
    await assert.rejects(upgraded(), { code: 'STATE_UNUSABLE' });
    const raw = new Database(file);
    const left = raw.prepare('select * from ledger').all().length;
    // What stood in the way; had anything of version 2 stayed, the next start would stumble over it.
    raw.exec('drop table new_ledger');
    raw.close();
    await using store = await upgraded();
    const count = async (table: string) => (await store.all(`select 1 from ${table}`)).length;
    assert.deepEqual([left, await count('ledger'), await count('authorities')], [2, 2, 2]);
  });

  it('trusts the SSH keys that were lost before version 3 no more, but for those of hosts', async () => {
    const row = (id: string, kind: string, state: string) => `insert into authorities
      (id, kind, state, public_key, not_before_ms, not_after_ms)
      values ('${id}', '${kind}', '${state}', x'05', 1, 2);`;
    const rows = [row('a', 'ssh-user', 'active'), row('b', 'ssh-user', 'old')];
    storeOf(2, [...rows, row('c', 'ssh-gateway', 'old'), row('d', 'ssh-host', 'old')].join('\n'));
    await using store = await upgraded();
    const found = await store.all('select id from authorities where tainted = 1 order by id');
    assert.deepEqual(found, [{ id: 'b' }, { id: 'c' }]);
  });

  it('keeps the indexes of the tables it makes anew', async () => {
    storeOf(1, FIRST);
    await using store = await upgraded();
    const plan = await store.all(
      'explain query plan select * from ledger where spiffe_id = ?',
      's',
    );
    assert.match(String(plan[0]?.detail), /ledger_by_holder/);
  });

  it('lets the newest version hold the kinds of SSH, and no others', async () => {
    storeOf(1, '');
    await using store = await upgraded();
    const put = (table: string, kind: string) =>
      store.transaction((tx) =>
        table === 'ledger'
          ? tx.run(
              `insert into ledger (serial, kind, spiffe_id, issued_at_ms, not_after_ms)
               values (?, ?, '', 0, 0)`,
              kind,
              kind,
            )
          : tx.run(
              `insert into authorities (id, kind, state, public_key, not_before_ms, not_after_ms)
               values (?, ?, 'active', x'', 0, 0)`,
              kind,
              kind,
            ),
      );
    for (const table of ['ledger', 'authorities']) {
      for (const kind of ['ssh-user', 'ssh-host', 'ssh-gateway']) await put(table, kind);
      await assert.rejects(put(table, 'ssh-other'), /CHECK/);
    }
  });
});
