import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { onEachPostgres } from '../../../../../test/fixtures/each-postgres.ts';
import { startPostgres } from '../../../../../test/fixtures/postgres.ts';
import { type ControlAddress, ControlConnections } from './control.ts';

const SETUP = "create role edge login password 'the password'";
const CONNECTIONS = "from pg_stat_activity where application_name = 'writ-gateway'";

onEachPostgres('ControlConnections', (server, version) => {
  let directory: string;
  let address: ControlAddress;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'writ-control-'));
    const loginPasswordFile = join(directory, 'password');
    await writeFile(loginPasswordFile, 'the password\n');
    await server().exec(SETUP);
    const { host, port } = server();
    address = { host, port, database: 'postgres', loginUser: 'edge', loginPasswordFile };
  });
  after(() => rm(directory, { recursive: true, force: true }));

  it('answers many at once over at most four connections', async () => {
    await using control = new ControlConnections(address);
    const asked = Array.from({ length: 100 }, (_, n) =>
      control.query('select $1::int as n, pg_backend_pid() as pid', [n]),
    );
    const rows = (await Promise.all(asked)).flat();
    assert.deepEqual(
      rows.map(({ n }) => n),
      Array.from({ length: 100 }, (_, n) => n),
    );
    assert.ok(new Set(rows.map(({ pid }) => pid)).size <= 4);
  });

  it('keeps its connection after an error of a statement and makes a new one after its loss', async () => {
    await using control = new ControlConnections(address);
    const pid = async () => (await control.query('select pg_backend_pid() as pid'))[0]?.pid;
    const first = await pid();
    await assert.rejects(control.query('select * from pg_authid'), { code: 'BACKEND_FAILED' });
    assert.equal(await pid(), first);
    await server().exec(`select pg_terminate_backend(pid, 1000) ${CONNECTIONS}`);
    await sleep(50);
    assert.notEqual(await pid(), first);
  });

  it('reads its password at each login', async () => {
    await using control = new ControlConnections(address);
    await writeFile(address.loginPasswordFile, 'a wrong one');
    await assert.rejects(control.query('select 1'), { code: 'UNAVAILABLE' });
    await writeFile(address.loginPasswordFile, 'the password');
    assert.deepEqual(await control.query('select 1 as a'), [{ a: 1 }]);
  });

  it('ends its connections when it is disposed', async () => {
    const control = new ControlConnections(address);
    await control.query('select 1');
    await control[Symbol.asyncDispose]();
    await assert.rejects(control.query('select 1'), { code: 'UNAVAILABLE' });
    await sleep(100);
    assert.deepEqual(await server().exec(`select pid ${CONNECTIONS}`), []);
  });

  it('logs in over TLS to the server that the backend names, and to no other', async () => {
    await using secure = await startPostgres({ version, tls: true });
    await secure.exec(SETUP);
    const over = (host: string, serverName?: string): ControlAddress => {
      if (serverName === undefined) return { ...address, host, port: secure.port };
      const tls = {
        $typeName: 'writ.resource.v1.BackendTls' as const,
        caFile: secure.caFile,
        serverName,
      };
      return { ...address, host, port: secure.port, tls };
    };
    await using right = new ControlConnections(over('127.0.0.1', 'localhost'));
    const [row] = await right.query('select ssl from pg_stat_ssl where pid = pg_backend_pid()');
    assert.equal(row?.ssl, true);
    const others = [
      over('127.0.0.1', 'db.example.org'),
      over('localhost', 'db.example.org'),
      over('127.0.0.1'),
      over('192.0.2.1'),
    ];
    for (const other of others) {
      await using wrong = new ControlConnections(other);
      await assert.rejects(wrong.query('select 1'), { code: 'UNAVAILABLE' });
    }
  });
});
