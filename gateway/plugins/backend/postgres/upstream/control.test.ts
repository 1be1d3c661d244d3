import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import { BackendTlsSchema } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../../../../../test/fixtures/each-postgres.ts';
import { startPostgres } from '../../../../../test/fixtures/postgres.ts';
import { fileLogin } from '../../../../credentials/local-login.ts';
import type { LoginSource } from '../../../../credentials/login-source.ts';
import { type ControlAddress, ControlConnections } from './control.ts';

const SETUP = "create role edge login password 'the password'";
const CONNECTIONS = "from pg_stat_activity where application_name = 'writ-gateway'";

onEachPostgres('ControlConnections', (server, version) => {
  let directory: string;
  let address: ControlAddress;
  let passwordFile: string;
  const login = () => fileLogin('edge', passwordFile);
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'writ-control-'));
    passwordFile = join(directory, 'password');
    await writeFile(passwordFile, 'the password\n');
    await server().exec(SETUP);
    const { host, port } = server();
    address = { host, port, database: 'postgres' };
  });
  after(() => rm(directory, { recursive: true, force: true }));

  it('answers many at once over at most four connections', async () => {
    await using control = new ControlConnections(address, login());
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
    await using control = new ControlConnections(address, login());
    const pid = async () => (await control.query('select pg_backend_pid() as pid'))[0]?.pid;
    const first = await pid();
    await assert.rejects(control.query('select * from pg_authid'), { code: 'BACKEND_FAILED' });
    assert.equal(await pid(), first);
    await server().exec(`select pg_terminate_backend(pid, 1000) ${CONNECTIONS}`);
    await sleep(50);
    assert.notEqual(await pid(), first);
  });

  it('reads its password at each login', async () => {
    await using control = new ControlConnections(address, login());
    await writeFile(passwordFile, 'a wrong one');
    await assert.rejects(control.query('select 1'), { code: 'UNAVAILABLE' });
    await writeFile(passwordFile, 'the password');
    assert.deepEqual(await control.query('select 1 as a'), [{ a: 1 }]);
  });

  it('leaves connections whose account is dropped, and tries the statement with the next login', async () => {
    const make = (name: string) =>
      server().exec(`create role ${name} login password 'the password';
        create or replace function public.once() returns text language sql as 'select current_user::text';
        revoke all on function public.once() from public; grant execute on function public.once() to ${name}`);
    await make('first');
    let user = 'first';
    const source: LoginSource = {
      current: async () => ({ user, password: 'the password' }),
      accepted: () => undefined,
      rejected: () => undefined,
      isOver: () => false,
      [Symbol.asyncDispose]: async () => undefined,
    };
    await using control = new ControlConnections(address, source);
    const ask = async () => (await control.query('select public.once() as name'))[0]?.name;
    assert.deepEqual(
      new Set(await Promise.all(Array.from({ length: 8 }, ask))),
      new Set(['first']),
    );
    await server().exec('drop owned by first; drop role first');
    user = 'second';
    await make('second');
    assert.deepEqual(
      new Set(await Promise.all(Array.from({ length: 8 }, ask))),
      new Set(['second']),
    );
    // What an account that is there may not do is no reason to leave it.
    const pid = async () => (await control.query('select pg_backend_pid() as pid'))[0]?.pid;
    const before = await pid();
    await assert.rejects(control.query('select * from pg_authid'), { code: 'BACKEND_FAILED' });
    assert.equal(await pid(), before);
    await server().exec('drop owned by second; drop role second; drop function public.once()');
  });

  it('ends its connections when it is disposed', async () => {
    const control = new ControlConnections(address, login());
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
      const tls = create(BackendTlsSchema, { caFile: secure.caFile, serverName });
      return { ...address, host, port: secure.port, tls };
    };
    await using right = new ControlConnections(over('127.0.0.1', 'localhost'), login());
    const [row] = await right.query('select ssl from pg_stat_ssl where pid = pg_backend_pid()');
    assert.equal(row?.ssl, true);
    const others = [
      over('127.0.0.1', 'db.example.org'),
      over('localhost', 'db.example.org'),
      over('127.0.0.1'),
      over('192.0.2.1'),
    ];
    for (const other of others) {
      await using wrong = new ControlConnections(other, login());
      await assert.rejects(wrong.query('select 1'), { code: 'UNAVAILABLE' });
    }
  });
});
