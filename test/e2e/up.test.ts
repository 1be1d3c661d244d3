import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../runtime/clock.ts';
import { hasProgram } from '../fixtures/programs.ts';
import { readingWorkload } from '../fixtures/workload.ts';
import { freePortBase, runProgram, runWrit, startUp } from '../fixtures/writ-up.ts';

const never = new AbortController().signal;
const PROMISED_READY_S = 10;
const hasSshd = hasProgram('/usr/sbin/sshd');
const SSH_KEYS = ['ssh_config', 'ssh_login', 'ssh_target'];

describe('writ up', () => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'writ-up-test-'));
    await chmod(folder, 0o755);
  });
  const cleanUp: string[] = [];
  afterEach(() => rm(folder, { recursive: true, force: true }));
  after(() => Promise.all(cleanUp.map((path) => rm(path, { recursive: true, force: true }))));

  it('is ready within 10 s, shows the sample, ends with Ctrl-C and goes on where it was', async () => {
    const state = join(folder, 'state');
    const portBase = await freePortBase();
    const first = await startUp({ state, portBase, args: [] });
    const end = systemClock.monotonicMs() + 30_000;
    while (!first.output().includes('Ctrl-C stops everything') && systemClock.monotonicMs() < end) {
      await systemClock.wait(50, never);
    }
    const shown = first.output();
    const ready = Number(/ready after ([\d.]+) s/.exec(shown)?.[1]);
    assert.ok(ready <= PROMISED_READY_S, `ready after ${ready} s`);
    const pieces = [
      'X509-SVID',
      'JWT-SVID',
      '42501',
      '57P01',
      'record verified',
      'psql "host=localhost',
      ...(hasSshd
        ? ['by a certificate', 'Permission denied (publickey)', 'working', 'ssh-add -L']
        : ['no sshd on this machine']),
    ];
    for (const piece of pieces) assert.ok(shown.includes(piece), `shows ${piece}:\n${shown}`);
    assert.doesNotMatch(shown, /\b9\d\d-\d\d-\d{4}\b/, 'no whole national id on screen');
    await pasteInstructions(shown);
    const bundle = readFileSync(first.json.bundle, 'utf8');
    const { pids, agent } = first.json;
    first.signal('SIGINT');
    assert.equal(await first.exited, 0, first.output());
    await first[Symbol.asyncDispose]();
    for (const pid of Object.values(pids)) assert.ok(!isAlive(pid), `${pid} ended`);
    assert.ok(!existsSync(join(state, 'up.json')));

    await using second = await startUp({ state, portBase, args: ['--no-sample'] });
    assert.equal(readFileSync(second.json.bundle, 'utf8'), bundle);
    assert.equal(second.json.agent.id, agent.id);
  }).timeout(120_000);

  it('writes up.json, 0600, with the keys it promises', async () => {
    await using up = await startUp();
    const file = join(up.state, 'up.json');
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const shape = Object.fromEntries(
      Object.entries(up.json).map(([key, value]) => [
        key,
        typeof value === 'string' ? 'string' : Object.keys(value).sort(),
      ]),
    );
    assert.deepEqual(shape, {
      trust_domain: 'string',
      server: ['address', 'admin_socket', 'health'],
      agent: ['health', 'id', 'ssh_agent', 'workload_api'],
      gateway: ['health', 'id', 'postgres', 'ssh'],
      bundle: 'string',
      demo: ['backend', 'database_url', ...(hasSshd ? SSH_KEYS : [])],
      pids: ['agent', 'gateway', 'postgres', 'server', ...(hasSshd ? ['sshd'] : []), 'up'],
    });
    assert.match(up.json.agent.workload_api, /^unix:\/\/\//);
    for (const { health } of [up.json.server, up.json.agent, up.json.gateway]) {
      const response = await fetch(`${health}/ready`);
      assert.equal(response.status, 200);
    }
    for (const secret of ['server', 'agent', 'gateway']) {
      assert.equal(statSync(join(up.state, secret)).mode & 0o777, 0o700, secret);
    }
  }).timeout(90_000);

  it('takes its children with it when it is killed, and starts again from what is there', async () => {
    const state = join(folder, 'state');
    const up = await startUp({ state });
    const { pids, trust_domain: trustDomain } = up.json;
    up.signal('SIGKILL');
    await up.exited;
    const end = systemClock.monotonicMs() + 15_000;
    while (Object.values(pids).some(isAlive) && systemClock.monotonicMs() < end) {
      await systemClock.wait(50, never);
    }
    assert.deepEqual(
      Object.entries(pids).filter(([, pid]) => isAlive(pid)),
      [],
    );
    await up[Symbol.asyncDispose]();
    await using again = await startUp({ state });
    assert.equal(again.json.trust_domain, trustDomain);
  }).timeout(90_000);

  it('joins its node anew after a stop that its SVID did not outlive, and loses no entry', async () => {
    const state = join(folder, 'state');
    const args = ['--no-sample', '--ttl', '8s'];
    let former = '';
    {
      await using up = await startUp({ state, args });
      former = up.json.agent.id;
    }
    await systemClock.wait(9000, never);
    await using up = await startUp({ state, args });
    assert.notEqual(up.json.agent.id, former);
    await using workload = await readingWorkload(up, 'after-a-stop');
    const client = await workload.connect();
    await client.end();
  }).timeout(90_000);

  const refusals: readonly [
    string,
    (state: string) => Promise<readonly string[]>,
    RegExp,
    number,
  ][] = [
    ['a bad --port-base', async () => ['--port-base', '80'], /--port-base "80": write a port/, 2],
    ['a bad --ttl', async () => ['--ttl', '1y'], /--ttl "1y": write a duration/, 2],
    ['an unknown option', async () => ['--nope'], /up: Unknown option '--nope'/, 2],
    ['a bad --trust-domain', async () => ['--trust-domain', 'Example.org'], /Example\.org/, 2],
    [
      'a state of another version',
      async (state) => {
        await mkdir(state);
        await writeFile(join(state, 'version'), '99\n');
        return [];
      },
      /is of version "99"/,
      1,
    ],
    [
      'a state directory of something else',
      async (state) => {
        await mkdir(join(state, 'server'), { recursive: true });
        return [];
      },
      /holds something else/,
      1,
    ],
    [
      'a path too long for a socket',
      async () => ['--state', `/tmp/${'x'.repeat(100)}`],
      /too long/,
      1,
    ],
  ];
  for (const [name, arrange, message, status] of refusals) {
    it(`refuses ${name} in one line and leaves nothing running`, async () => {
      const state = join(folder, 'state');
      const extra = await arrange(state);
      const outcome = await runWrit(['up', '--state', state, ...extra]);
      assert.equal(outcome.status, status, outcome.stderr);
      assert.match(outcome.stderr.split('\n')[0] ?? '', message);
      assert.equal(outcome.stdout, '');
    });
  }

  it('refuses a port that is taken, naming it', async () => {
    const base = await freePortBase();
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(base + 1, '127.0.0.1', resolve));
    const state = join(folder, 'state');
    const outcome = await runWrit(['up', '--state', state, '--port-base', String(base)]);
    taken.close();
    assert.equal(outcome.status, 1);
    assert.match(outcome.stderr, new RegExp(`port ${base + 1} \\(gatewayPostgres\\) is taken`));
    assert.equal(outcome.stderr.trim().split('\n').length, 1);
  });

  it('refuses a state directory that a running one holds', async () => {
    await using up = await startUp();
    const outcome = await runWrit(['up', '--state', up.state]);
    assert.equal(outcome.status, 1);
    assert.match(outcome.stderr, /is in use by process \d+/);
  }).timeout(90_000);

  it('works in a folder that only its owner may enter', async () => {
    await chmod(folder, 0o700);
    await using up = await startUp({ state: join(folder, 'state') });
    assert.ok(up.json.pids.postgres > 0);
    for (const [, elsewhere = ''] of up.output().matchAll(/stands in (\S+)/g))
      cleanUp.push(elsewhere);
  }).timeout(90_000);
});

/** What it prints for another terminal, pasted as it stands. */
async function pasteInstructions(shown: string): Promise<void> {
  if (!hasProgram('psql')) {
    assert.notEqual(process.env.CI, 'true', 'CI lacks psql');
    return;
  }
  const psql = /the same with psql:\n([\s\S]*?)\n\n/.exec(shown)?.[1] ?? '';
  const entry = /so give it one:\n([\s\S]*?--expires-in \S+)/.exec(shown)?.[1] ?? '';
  assert.match(psql, /^ {2}psql /m);
  assert.match(entry, /entry create/);
  const ssh = /and with ssh, scp and sftp[^\n]*\n([\s\S]*?)\n\n/.exec(shown)?.[1] ?? '';
  assert.equal(ssh.includes('ssh -F'), hasSshd);
  const script = ['set -euo pipefail', psql, ssh, entry].join('\n');
  const { status, stdout, stderr } = await runProgram('bash', ['-c', script]);
  assert.equal(status, 0, stderr);
  assert.match(stdout, /Ben Berg .*\*{7}7919/);
  if (hasSshd) assert.match(stdout, /load average[\s\S]*ssh-ed25519-cert-v01@openssh\.com AAAA/);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.[0] !== 'Z';
  } catch {
    return false;
  }
}
