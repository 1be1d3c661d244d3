import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasProgram, interopPython, skipWithout } from '../fixtures/programs.ts';
import { readingWorkload, type Workload } from '../fixtures/workload.ts';
import { type RunningUp, runProgram, startUp } from '../fixtures/writ-up.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
const MASKED_SSN = /^\D+\d{4}$/;

describe('clients that people have', () => {
  let up: RunningUp;
  let workload: Workload;
  let folder: string;

  before(async function () {
    this.timeout(90_000);
    // Short enough for a rotation in the test, long enough for a slow machine.
    up = await startUp({ args: ['--no-sample', '--ttl', '30s'] });
    workload = await readingWorkload(up, 'interop');
    folder = await mkdtemp(join(tmpdir(), 'writ-interop-'));
  });
  after(async function () {
    this.timeout(30_000);
    await workload[Symbol.asyncDispose]();
    await up[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  const conninfo = async (name: string): Promise<string> => {
    const place = join(folder, name);
    await mkdir(place);
    const { cert, key, ca } = await workload.writeFiles(place);
    const [host, port] = up.json.gateway.postgres.split(':');
    const tls = `sslmode=verify-full sslcert=${cert} sslkey=${key} sslrootcert=${ca}`;
    return `host=${host} port=${port} dbname=${up.json.demo.backend} user=app ${tls}`;
  };

  it('go-spiffe: X509Source and JWTSource through a rotation, and mTLS with the server', async function () {
    if (!hasProgram('go')) skipWithout(this, 'Go');
    const program = join(folder, 'interop');
    const built = await runProgram('go', ['build', '-o', program, '.'], {
      cwd: join(HERE, 'go'),
      timeoutMs: 240_000,
    });
    assert.equal(built.status, 0, built.stderr);
    const { agent, server } = up.json;
    const args = [agent.workload_api, workload.spiffeId, server.address, '1'];
    const { status, stdout, stderr } = await runProgram(program, args, { timeoutMs: 100_000 });
    assert.equal(status, 0, stderr);
    const report = JSON.parse(stdout);
    assert.equal(report.id, workload.spiffeId);
    assert.equal(report.serials.length, 2);
    assert.equal(report.verified, 2);
    assert.equal(report.tokens, 2);
    assert.equal(report.validated, workload.spiffeId);
    assert.equal(report.tls_peer, `spiffe://${up.json.trust_domain}/spire/server`);
    assert.deepEqual(report.errors, []);
  }).timeout(400_000);

  it('py-spiffe: X509Source and JwtSource through a rotation', async function () {
    const python = interopPython();
    if ('reason' in python) return skipWithout(this, python.reason);
    const script = join(HERE, 'python/spiffe_client.py');
    const args = [script, up.json.agent.workload_api, workload.spiffeId, '1'];
    const { status, stdout, stderr } = await runProgram(python.file, args, { timeoutMs: 100_000 });
    assert.equal(status, 0, stderr);
    const report = JSON.parse(stdout);
    assert.equal(report.id, workload.spiffeId);
    assert.equal(report.serials.length, 2);
    assert.equal(report.authorities, 1);
    assert.equal(report.jwt_subject, workload.spiffeId);
    assert.equal(report.validated, workload.spiffeId);
  }).timeout(120_000);

  it('G5 psycopg: text, binary, prepared, COPY, pipeline, server-side cursor', async function () {
    const python = interopPython();
    if ('reason' in python) return skipWithout(this, python.reason);
    const args = [join(HERE, 'python/psycopg_client.py'), await conninfo('psycopg')];
    const { status, stdout, stderr } = await runProgram(python.file, args);
    assert.equal(status, 0, stderr);
    const report = JSON.parse(stdout);
    assert.match(report.text[0], MASKED_SSN);
    assert.deepEqual(report.binary, report.text);
    assert.deepEqual(report.prepared, [1, 2, 3]);
    assert.match(report.copied, /^1\t\D+\d{4}\n$/);
    assert.deepEqual(report.pipelined, [0, 1, 2, 3, 4]);
    assert.equal(report.denied, '42501');
    assert.equal(report.after, 1);
    assert.equal(report.fetched, 10);
  }).timeout(60_000);

  it('G5 psql: verify-full, masked rows, 42501, \\d and \\copy', async function () {
    if (!hasProgram('psql')) skipWithout(this, 'psql');
    const target = await conninfo('psql');
    const psql = (...args: string[]) => runProgram('psql', ['-X', '-At', target, ...args]);
    const read = await psql('-c', 'select ssn from customers where id = 1');
    assert.match(read.stdout.trim(), MASKED_SSN, read.stderr);
    const denied = await psql('-v', 'VERBOSITY=verbose', '-c', 'delete from orders');
    assert.match(denied.stderr, /42501/);
    const described = await psql('-c', '\\d orders');
    assert.match(described.stdout, /customer_id/, described.stderr);
    const copied = await psql('-c', '\\copy (select ssn from customers where id = 1) to stdout');
    assert.match(copied.stdout.trim(), MASKED_SSN, copied.stderr);
    const both = await psql('-c', 'delete from orders', '-c', 'select 1');
    assert.match(both.stdout, /^1$/m);
  }).timeout(60_000);

  it('G5 psql: is refused without a certificate, and without TLS in words', async function () {
    if (!hasProgram('psql')) skipWithout(this, 'psql');
    const [host, port] = up.json.gateway.postgres.split(':');
    const { ca } = await workload.writeFiles(folder);
    const bare = `host=${host} port=${port} dbname=shop sslmode=verify-full sslrootcert=${ca}`;
    const refused = await runProgram('psql', ['-X', bare, '-c', 'select 1']);
    assert.notEqual(refused.status, 0);
    const plain = await runProgram('psql', [
      '-X',
      `host=${host} port=${port} dbname=shop sslmode=disable`,
      '-c',
      'select 1',
    ]);
    assert.match(plain.stderr, /requires TLS/);
  }).timeout(30_000);
});
