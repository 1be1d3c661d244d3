import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  hasProgram,
  interopPython,
  skipWithout,
  skipWithoutTerminals,
} from '../fixtures/programs.ts';
import { makeSshWorkload, type SshWorkload } from '../fixtures/ssh-workload.ts';
import { type RunningUp, runProgram, startUp } from '../fixtures/writ-up.ts';

const HERE = dirname(fileURLToPath(import.meta.url));

describe('SSH libraries that people have', () => {
  let up: RunningUp;
  let workload: SshWorkload;
  let folder: string;

  before(async function () {
    this.timeout(90_000);
    if (!hasProgram('/usr/sbin/sshd')) skipWithout(this, 'sshd');
    up = await startUp();
    folder = await mkdtemp(join(tmpdir(), 'writ-ssh-interop-'));
    // The target runs as another user.
    await chmod(folder, 0o777);
    workload = await makeSshWorkload(up, 'library');
    const fetched = await up.writ('fetch', 'ssh', '--out', join(folder, 'key'));
    assert.equal(fetched.stdout, `${workload.spiffeId}\n`, fetched.stderr);
  });
  after(async function () {
    this.timeout(30_000);
    if (up === undefined) return;
    await up[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  it('x/crypto/ssh: host certificate, login by certificate, jump, exit status, no forwarding', async function () {
    if (!hasProgram('go')) skipWithout(this, 'Go');
    const program = join(folder, 'go-ssh');
    const built = await runProgram('go', ['build', '-o', program, './ssh'], {
      cwd: join(HERE, 'go'),
      timeoutMs: 240_000,
    });
    assert.equal(built.status, 0, built.stderr);
    const { ssh_login: login = '', ssh_target: target = '' } = up.json.demo;
    const args = [join(folder, 'key'), up.json.gateway.ssh, login, target];
    const { status, stdout, stderr } = await runProgram(program, args);
    assert.equal(status, 0, stderr);
    const report = JSON.parse(stdout);
    assert.equal(report.direct, 'direct\n');
    assert.equal(report.jumped, 'jumped\n');
    assert.equal(report.status, 5);
    assert.equal(report.echoed, 1 << 20);
    assert.match(report.refused, /unable to authenticate/);
    assert.equal(report.forwards, null);
  }).timeout(300_000);

  it('paramiko: login by certificate, exec, SFTP, a shell with its window', async function () {
    const python = interopPython();
    if ('reason' in python) return skipWithout(this, python.reason);
    skipWithoutTerminals(this);
    const [host = '', port = ''] = up.json.gateway.ssh.split(':');
    const scanned = await runProgram('ssh-keyscan', ['-t', 'ed25519', '-p', port, host]);
    const known = join(folder, 'scanned');
    await writeFile(known, scanned.stdout);
    const { ssh_login: login = '', ssh_target: target = '' } = up.json.demo;
    const script = join(HERE, 'python/ssh_client.py');
    const args = [script, join(folder, 'key'), known, up.json.gateway.ssh, login, target, folder];
    const { status, stdout, stderr } = await runProgram(python.file, args);
    assert.equal(status, 0, stderr);
    const report = JSON.parse(stdout);
    assert.equal(report.out, 'out\n');
    assert.equal(report.err, 'err\n');
    assert.equal(report.status, 4);
    assert.equal(report.same, true);
    assert.equal(report.size, 1_500_000);
    assert.equal(report.window, true);
    assert.match(report.refused, /Authentication failed/);
  }).timeout(60_000);
});
