/** `writ exec` as a process of its own, at a real server and an issuer of tokens over https. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readPreface } from '../../gateway/plugins/backend/postgres/client/startup.ts';
import { bundlePin, bundleToPem } from '../../identity/bundle.ts';
import { SvidServer } from '../../identity/tls.ts';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey } from '../../identity/x509/key.ts';
import { x509Svid } from '../../identity/x509-svid.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Watched } from '../../runtime/watched.ts';
import { WorkloadApiClient } from '../../sdk/workload-api-client.ts';
import { OidcIssuer } from '../../test/fakes/oidc-issuer.ts';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { entryInit } from '../../test/fixtures/registry-world.ts';
import { CALL, RunningServer, temporaryDir, until } from '../../test/fixtures/running-server.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');
const WRIT = ['--import', 'tsx', join(ROOT, 'cli/main.ts')];
const TIMEOUT_MS = 40_000;

interface Running {
  readonly child: ChildProcess;
  readonly status: Promise<number | null>;
  stdout(): string;
  stderr(): string;
}

describe('writ exec', function () {
  this.timeout(TIMEOUT_MS);
  let issuer: OidcIssuer;
  let server: RunningServer;
  let folder: ReturnType<typeof temporaryDir>;
  const running = new Set<ChildProcess>();

  before(async () => {
    issuer = await OidcIssuer.start();
    const provider = { issuer: issuer.url, ca_file: issuer.caFile, audience: 'writ' };
    const rules = { claims: { repository_id: '74' } };
    const issuers = [
      { name: 'github', preset: 'github', ...provider, ...rules },
      { name: 'stable', preset: 'github', ...provider, ...rules, agent_per: 'claims' },
    ];
    const attestors = { join_token: {}, oidc: { issuers } };
    server = await RunningServer.start({ config: { node_attestors: attestors } });
    const selectors = ['oidc:claim:repository_id:74'];
    await server.createEntry(entryInit({ path: '/node/shop', parent: '/spire/server', selectors }));
    await server.createEntry(
      entryInit({
        path: '/ci/deploy',
        parent: '/node/shop',
        selectors: ['oidc:claim:ref:refs/heads/main'],
      }),
    );
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await issuer[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    folder = temporaryDir();
    issuer.claims = { repository_id: '74', event_name: 'push', ref: 'refs/heads/main' };
  });
  afterEach(async () => {
    for (const child of running) child.kill('SIGKILL');
    folder[Symbol.dispose]();
  });

  const start = async (
    command: readonly string[],
    { provider = 'github', flags = [] as readonly string[], env = {} } = {},
  ): Promise<Running> => {
    const where = ['--server', server.facts.address, '--oidc', provider];
    const pin = flags.includes('--bundle') || flags.includes('--fingerprint');
    const trust = pin ? [] : ['--fingerprint', bundlePin(await server.bundle())];
    const args = [...WRIT, 'exec', ...where, ...trust, ...flags, '--', ...command];
    const child = spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        ...issuer.githubEnvironment,
        NODE_EXTRA_CA_CERTS: issuer.caFile,
        XDG_RUNTIME_DIR: folder.path,
        ...env,
      },
    });
    running.add(child);
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const status = once(child, 'close').then(([code]) => {
      running.delete(child);
      return code as number | null;
    });
    return { child, status, stdout: () => stdout, stderr: () => stderr };
  };
  const run = async (...given: Parameters<typeof start>) => {
    const started = await start(...given);
    const status = await started.status;
    return { status, stdout: started.stdout(), stderr: started.stderr() };
  };
  const writ = `${process.execPath} ${WRIT.join(' ')}`;

  it('gives the command, and what that starts, an SVID over a socket of its own', async () => {
    const out = join(folder.path, 'out');
    const { status, stdout, stderr } = await run([
      'sh',
      '-c',
      `sh -c "${writ} fetch x509 --out ${out}"; ${writ} fetch jwt --audience db`,
    ]);
    assert.equal(status, 0, stderr);
    const [id, token = ''] = stdout.trim().split('\n');
    assert.equal(id, 'spiffe://example.org/ci/deploy');
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
    assert.deepEqual([claims.sub, claims.aud], ['spiffe://example.org/ci/deploy', ['db']]);
    assert.deepEqual(readdirSync(folder.path), ['out']);
  });

  it('ends with the status of the command', async () => {
    assert.equal((await run(['sh', '-c', 'exit 7'])).status, 7);
    assert.equal((await run(['sh', '-c', 'kill -9 $$'])).status, 137);
    const { status, stderr } = await run(['no-such-program']);
    assert.deepEqual([status, /no-such-program/.test(stderr)], [127, true]);
  });

  it('hands signals on, and leaves nothing of the command behind', async () => {
    const script = 'sleep 300 & trap "exit 9" TERM; echo $!; wait';
    const started = await start(['sh', '-c', script]);
    await until(async () => started.stdout() !== '');
    started.child.kill('SIGTERM');
    assert.equal(await started.status, 9);
    await until(async () => !existsSync(`/proc/${started.stdout().trim()}`));
    assert.deepEqual(readdirSync(folder.path), []);
  });

  it('answers no process that does not come from the command', async () => {
    const started = await start(['sh', '-c', 'echo $SPIFFE_ENDPOINT_SOCKET; sleep 300']);
    await until(async () => started.stdout() !== '');
    await using client = new WorkloadApiClient(started.stdout().trim());
    const first = client.watchX509(CALL.signal)[Symbol.asyncIterator]().next();
    await assert.rejects(first, { status: 'PERMISSION_DENIED' });
    started.child.kill('SIGTERM');
    await started.status;
  });

  it('ends the command when its agent is banned', async () => {
    const started = await start(['sh', '-c', 'echo $$; sleep 300'], { provider: 'stable' });
    await until(async () => started.stdout() !== '');
    const path = '/spire/agent/oidc/stable/repository_id/74';
    const agents = server.admin(Agent);
    await agents.banAgent({ id: { trustDomain: 'example.org', path } }, CALL);
    assert.equal(await started.status, 1);
    assert.match(started.stderr(), /identity has ended/);
    assert.ok(!existsSync(`/proc/${started.stdout().trim()}`));
    await agents.deleteAgent({ id: { trustDomain: 'example.org', path } }, CALL);
  });

  it('shows psql its key without a file that has a name', async function () {
    if (!hasProgram('psql')) skipWithout(this, 'psql');
    await using gateway = await echoGateway(server);
    const bundle = join(folder.path, 'bundle.pem');
    writeFileSync(bundle, bundleToPem(await server.bundle()));
    const { status, stderr } = await run(
      ['sh', '-c', 'psql -X -c "select 1"; s=$?; ls -l $PGSSLKEY >&2; exit $s'],
      {
        flags: ['--bundle', bundle, '--backend', 'orders-db'],
        env: { PGHOST: 'localhost', PGPORT: String(gateway.port), PGUSER: 'app' },
      },
    );
    assert.equal(status, 2, stderr);
    assert.match(stderr, /spiffe:\/\/example\.org\/ci\/deploy asks for .*orders-db/);
    assert.match(stderr, /\(deleted\)/);
  });

  it('takes a token from a variable or a file, once', async () => {
    const token = await issuer.mint('writ');
    const first = await run(['true'], {
      flags: ['--token-env', 'JOB_TOKEN'],
      env: { JOB_TOKEN: token },
    });
    assert.equal(first.status, 0, first.stderr);
    const file = join(folder.path, 'token');
    writeFileSync(file, token);
    const second = await run(['true'], { flags: ['--token-file', file] });
    assert.equal(second.status, 1);
    assert.match(second.stderr, /does not prove this node/);
    assert.ok(!second.stderr.includes(token));
    writeFileSync(file, await issuer.mint('writ'));
    assert.equal((await run(['true'], { flags: ['--token-file', file] })).status, 0);
  });

  it('runs nothing for a job that is not let in', async () => {
    const mark = join(folder.path, 'ran');
    issuer.claims = { ...issuer.claims, event_name: 'pull_request', ref: 'refs/pull/1/merge' };
    const pull = await run(['touch', mark]);
    assert.deepEqual([pull.status, /does not prove/.test(pull.stderr)], [1, true]);
    issuer.claims = { repository_id: '74', event_name: 'push', ref: 'refs/heads/dev' };
    const other = await run(['touch', mark]);
    assert.equal(other.status, 1);
    assert.match(
      other.stderr,
      /no entry is for spiffe:\/\/example\.org\/spire\/agent\/oidc\/github/,
    );
    const wrong = await run(['touch', mark], { flags: ['--fingerprint', 'ab'.repeat(32)] });
    assert.match(wrong.stderr, /not the one of this bundle or fingerprint/);
    assert.ok(!existsSync(mark));
  });

  it('says what is missing on the command line', async () => {
    const none = { ACTIONS_ID_TOKEN_REQUEST_URL: undefined };
    const without = await run(['true'], { env: none });
    assert.deepEqual([without.status, /id-token: write/.test(without.stderr)], [2, true]);
    const short = await run(['true'], { flags: ['--fingerprint', 'abc'] });
    assert.equal(short.status, 2);
  });
});

/** The front of a gateway, of an SVID for localhost: it tells each client who it is and what it asked. */
async function echoGateway(server: RunningServer) {
  const { svid: agent, channel } = await server.newAgent();
  const { id } = await server.entryUnder(agent, '/gateway', { dnsNames: ['localhost'] });
  const key = await generateKey('ec-p256');
  const params = [{ entryId: id, csr: createCsr(key) }];
  const { results } = await channel.client(SVID).batchNewX509SVID({ params }, CALL);
  const listener = new SvidServer({
    svid: new Watched(x509Svid(results[0]?.svid?.certChain ?? [], key)),
    bundles: new Watched(await server.bundle()),
    ...{ client: 'required', alpn: ['postgresql'], clock: systemClock },
    preface: (socket, signal) => readPreface(socket, { signal, cancel: async () => undefined }),
    onRefused: () => undefined,
    onConnection: ({ socket, peer }) => {
      socket.once('data', (startup: Buffer) => {
        const asked = startup.subarray(8).toString('latin1').replaceAll('\0', ' ');
        socket.end(fatal(`${peer?.id} asks for ${asked}`));
      });
    },
  });
  const { port } = await listener.listen('127.0.0.1', 0);
  return { port, [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose]() };
}

/** Source: PostgreSQL protocol, ErrorResponse. */
function fatal(message: string): Buffer {
  const fields = Buffer.from(`SFATAL\0VFATAL\0C28000\0M${message}\0\0`);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(fields.length + 4);
  return Buffer.concat([Buffer.from('E'), length, fields]);
}
