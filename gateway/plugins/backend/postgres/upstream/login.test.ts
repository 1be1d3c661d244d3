import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { BackendTlsSchema } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
  startPostgres,
  type TestPostgres,
} from '../../../../../test/fixtures/postgres.ts';
import { authenticationOk, readyForQuery } from '../wire/backend-messages.ts';
import { cstring, int32, message } from '../wire/message-body.ts';
import { type LoginOptions, logIn } from './login.ts';

const PASSWORD = 'a password for one login';
const failed = { code: 'BACKEND_FAILED' };

const options = (server: TestPostgres, more: Partial<LoginOptions> = {}): LoginOptions => ({
  address: {
    host: server.host,
    port: server.port,
    ...tlsOf(server.caFile),
  },
  database: 'postgres',
  role: 'writ_test',
  password: PASSWORD,
  settings: new Map([['application_name', 'login test']]),
  signal: AbortSignal.timeout(20_000),
  ...more,
});

function tlsOf(caFile: string, serverName = 'localhost') {
  return caFile === '' ? {} : { tls: create(BackendTlsSchema, { caFile, serverName }) };
}

for (const version of POSTGRES_VERSIONS) {
  for (const tls of [false, true]) {
    describe(`logIn to ${postgresTitle(version)} ${tls ? 'over TLS' : 'in clear'}`, function () {
      this.timeout(60_000);
      let server: TestPostgres;
      before(async function () {
        requirePostgres(this, version);
        server = await startPostgres({ version, tls });
        await server.exec(`create role writ_test login password '${PASSWORD}'`);
      });
      after(async () => server?.[Symbol.asyncDispose]());

      async function refused(more: Partial<LoginOptions> = {}): Promise<Fault> {
        const outcome = await logIn(options(server, more)).then(
          ({ socket }) => socket.destroy() && 'logged in',
          (error: unknown) => error,
        );
        assert.ok(outcome instanceof Fault, String(outcome));
        assert.equal(outcome.code, 'BACKEND_FAILED');
        assert.ok(!outcome.message.includes(PASSWORD));
        return outcome;
      }

      it('proves the password and has the server prove it too', async () => {
        const { socket, parameters, key } = await logIn(options(server));
        const settings = Object.fromEntries(parameters);
        assert.equal(settings.application_name, 'login test');
        assert.equal(settings.session_authorization, 'writ_test');
        assert.equal(key.secret.length, 4);
        const [row] = await server.exec(`select ssl from pg_stat_ssl where pid = ${key.processId}`);
        assert.equal(row?.ssl, tls);
        socket.destroy();
      });

      it('fails with a wrong password, and tells the log why', async () => {
        const { message: text, cause } = await refused({ password: 'wrong' });
        assert.equal(text, 'login to the backend failed');
        assert.match(String(cause), /28P01/);
      });

      it('tells which setting the server does not take, but not its value (S9)', async () => {
        for (const setting of ['timezone', 'statement_timeout', 'datestyle']) {
          const settings = new Map([[setting, '536-22-8726']]);
          await assert.rejects(logIn(options(server, { settings })), (error: unknown) => {
            assert.ok(error instanceof Fault);
            assert.equal(error.code, 'INVALID_ARGUMENT');
            assert.equal(
              error.message,
              `the backend does not take the value of setting "${setting}"`,
            );
            assert.ok(!String(error.cause).includes('536-22-8726'));
            return true;
          });
        }
      });

      it('fails where the server would let the role in without its password', async () => {
        const [row] = await server.exec("select current_setting('hba_file') as file");
        const file = String(row?.file);
        const line = (method: string) => `host all all 127.0.0.1/32 ${method}`;
        await server.exec(`copy (select '${line('trust')}') to '${file}'`);
        await server.exec('select pg_reload_conf()');
        await new Promise((resolve) => setTimeout(resolve, 200));
        const { cause } = await refused();
        assert.match(String(cause), /scram-sha-256/);
        await server.exec(`copy (select '${line('scram-sha-256')}') to '${file}'`);
        await server.exec('select pg_reload_conf()');
        await new Promise((resolve) => setTimeout(resolve, 200));
      });

      if (tls) {
        it('fails when the certificate is for another name or of another authority', async () => {
          const { host, port } = server;
          await refused({ address: { host, port, ...tlsOf(server.caFile, 'db.internal') } });
          const stranger = join(dirname(server.caFile), 'stranger.pem');
          const other = await startPostgres({ version, tls: true });
          await writeFile(stranger, '');
          await refused({ address: { host, port, ...tlsOf(stranger) } });
          await refused({ address: { host, port, ...tlsOf(other.caFile) } });
          await other[Symbol.asyncDispose]();
        });

        it('takes an address for the name that the certificate must have', async () => {
          const { host, port, caFile } = server;
          const address = { host, port, ...tlsOf(caFile, '127.0.0.1') };
          const { socket } = await logIn(options(server, { address }));
          socket.destroy();
        });
      } else {
        it('fails when the server refuses TLS, and does not fall back', async () => {
          const { host, port } = server;
          await refused({ address: { host, port, ...tlsOf('/etc/hostname') } });
        });
      }
    });
  }
}

/** A server that answers each thing it is told with the next of `answers`. */
async function fakeServer(...answers: readonly Buffer[]) {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    const left = [...answers];
    socket.on('error', () => undefined);
    socket.on('data', () => socket.write(left.shift() ?? ''));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    closed: () => Promise.all(sockets.map((socket) => socket.closed || once(socket, 'close'))),
    [Symbol.dispose]: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

const authentication = (kind: number, text: string | Buffer = '') =>
  message('R', int32(kind), Buffer.from(text));
const SASL = authentication(10, 'SCRAM-SHA-256\0\0');

describe('logIn to a server that is none', () => {
  const at = (port: number, signal = AbortSignal.timeout(5000)): LoginOptions => ({
    address: { host: '127.0.0.1', port },
    database: 'd',
    role: 'r',
    password: PASSWORD,
    settings: new Map(),
    signal,
  });

  for (const [what, answers] of [
    ['lets it in at once', [Buffer.concat([authenticationOk(), readyForQuery('I')])]],
    ['asks for the password in clear', [authentication(3)]],
    ['asks for MD5', [authentication(5, 'salt')]],
    ['offers another mechanism', [authentication(10, 'PLAIN\0\0')]],
    ['goes on without its proof', [SASL, authenticationOk()]],
    ['sends a message of 2 GiB', [Buffer.from('527fffffff', 'hex')]],
    ['sends a length that is too short', [Buffer.from('5200000003', 'hex')]],
    [
      'answers with an error',
      [message('E', cstring('C53300'), cstring('Mtoo many'), Buffer.alloc(1))],
    ],
    ['negotiates another version', [message('v', int32(0), int32(0))]],
  ] as const) {
    it(`fails when it ${what}, and closes the connection`, async () => {
      using server = await fakeServer(...answers);
      await assert.rejects(logIn(at(server.port)), failed);
      await server.closed();
    });
  }

  it('fails when its proof is not right', async () => {
    const sockets: Socket[] = [];
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => undefined);
      socket.once('data', () => {
        socket.write(SASL);
        socket.once('data', (initial) => {
          const nonce = /r=([^,]+)$/.exec(initial.toString('latin1'))?.[1];
          socket.write(authentication(11, `r=${nonce}server,s=c2FsdHNhbHRzYWx0,i=4096`));
          socket.once('data', () =>
            socket.write(
              Buffer.concat([
                authentication(12, `v=${Buffer.alloc(32).toString('base64')}`),
                authenticationOk(),
              ]),
            ),
          );
        });
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const error = await logIn(at(address.port)).catch((reason: unknown) => reason);
    server.close();
    for (const socket of sockets) socket.destroy();
    assert.ok(error instanceof Fault);
    assert.match(String(error.cause), /prove/);
  });

  it('gives up at once when its signal aborts, with its reason', async () => {
    using server = await fakeServer();
    const controller = new AbortController();
    const reason = new Fault('PERMISSION_DENIED', 'revoked');
    setTimeout(() => controller.abort(reason), 50);
    await assert.rejects(logIn(at(server.port, controller.signal)), reason);
    await server.closed();
  });

  it('fails where nobody listens', async () => {
    await assert.rejects(logIn(at(1)), failed);
  });

  it('does not send a password in clear to another host', async () => {
    const address = { host: 'db.internal', port: 5432 };
    await assert.rejects(logIn({ ...at(1), address }), failed);
  });
});
