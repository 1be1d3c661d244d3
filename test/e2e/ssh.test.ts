import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { AuditService, SessionService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { type Event, EventSchema } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { hasProgram, skipWithout, skipWithoutTerminals } from '../fixtures/programs.ts';
import {
  makeSshWorkload,
  type SshWorkload,
  sshGrantDocument,
  until,
} from '../fixtures/ssh-workload.ts';
import { launchSshd } from '../fixtures/sshd.ts';
import { unusedPort } from '../fixtures/unused-port.ts';
import { applyDocuments } from '../fixtures/workload.ts';
import { type RunningUp, runProgram, startUp } from '../fixtures/writ-up.ts';

const never = new AbortController().signal;

describe('ssh through the gateway of writ up', () => {
  let up: RunningUp;
  let folder: string;
  let workload: SshWorkload;
  let target: string;

  before(async function () {
    this.timeout(90_000);
    if (!hasProgram('/usr/sbin/sshd')) skipWithout(this, 'sshd');
    up = await startUp();
    folder = await mkdtemp(join(tmpdir(), 'writ-ssh-'));
    // The target runs as another user.
    await chmod(folder, 0o777);
    workload = await makeSshWorkload(up, 'ops');
    target = up.json.demo.ssh_target ?? '';
  });
  after(async function () {
    this.timeout(30_000);
    if (up === undefined) return;
    await up[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  const deniedEvents = async (): Promise<Event[]> => {
    const events: Event[] = [];
    const request = { last: 200, follow: false };
    for await (const { event } of up.admin(AuditService).tailEvents(request, { signal: never })) {
      if (event !== undefined) events.push(fromBinary(EventSchema, event.body));
    }
    return events.filter(({ type }) => /denied|refused/.test(type));
  };

  it('runs a command by ssh -J and brings back its output, errors and status', async () => {
    const { status, stdout, stderr } = await workload.ssh(target, 'echo out; echo err >&2; exit 7');
    assert.equal(stdout, 'out\n');
    assert.equal(stderr, 'err\n');
    assert.equal(status, 7);
  }).timeout(20_000);

  it('takes ssh -J as a person types it, and deploy+web-1@gateway', async () => {
    const [host = '', port = ''] = up.json.gateway.ssh.split(':');
    const known = join(up.json.demo.ssh_config ?? '', '../known_hosts');
    const config = join(folder, 'plain_config');
    const lines = [
      'Host *',
      `  UserKnownHostsFile ${known}`,
      '  StrictHostKeyChecking yes',
      `  IdentityAgent ${up.json.agent.ssh_agent}`,
      '  BatchMode yes',
    ];
    await writeFile(config, `${lines.join('\n')}\n`);
    const login = up.json.demo.ssh_login ?? '';
    const jump = ['-F', config, '-J', `${host}:${port}`, `${login}@${target}`, 'echo jumped'];
    const jumped = await runProgram('ssh', jump);
    assert.equal(jumped.stdout, 'jumped\n', jumped.stderr);
    const direct = ['-F', config, '-p', port, `${login}+${target}@${host}`, 'echo direct'];
    const went = await runProgram('ssh', direct);
    assert.equal(went.stdout, 'direct\n', went.stderr);
  }).timeout(30_000);

  it('gives a terminal and a shell, and replays what they showed', async function () {
    skipWithoutTerminals(this);
    const client = workload.start('-tt', target);
    let shown = '';
    client.stdout?.setEncoding('utf8').on('data', (text: string) => {
      shown += text;
    });
    const session = await workload.session();
    client.stdin?.write('tty; echo "count $((40 + 2))"; exit 3\n');
    const status = await new Promise((resolve) => client.once('close', resolve));
    assert.equal(status, 3, shown);
    assert.match(shown, /\/dev\/pts\/\d+/);
    assert.match(shown, /count 42/);
    const replay = await until('the record is sealed', async () => {
      const outcome = await up.writ('session', 'replay', session.id);
      return outcome.stderr.includes('record verified') ? outcome : undefined;
    });
    assert.match(replay.stdout, /shell/);
    const cast = await up.writ('session', 'replay', session.id, '--asciicast');
    const [head = '', ...events] = cast.stdout.trim().split('\n');
    assert.equal(JSON.parse(head).version, 2);
    const output = events
      .map((line) => JSON.parse(line) as [number, string, string])
      .map(([, kind, data]) => (kind === 'o' ? data : ''))
      .join('');
    assert.match(output, /count 42/);
  }).timeout(30_000);

  for (const [name, flags] of [
    ['scp', []],
    ['scp -O', ['-O']],
  ] as const) {
    it(`copies files byte by byte with ${name}, both ways`, async () => {
      const bytes = randomBytes(3_000_000);
      const file = join(folder, `up-${flags.length}`);
      await writeFile(file, bytes);
      const there = join(folder, `there-${flags.length}`);
      const sent = await workload.run('scp', ...flags, file, `${target}:${there}`);
      assert.equal(sent.status, 0, sent.stderr);
      const back = join(folder, `back-${flags.length}`);
      const got = await workload.run('scp', ...flags, `${target}:${there}`, back);
      assert.equal(got.status, 0, got.stderr);
      assert.ok((await readFile(back)).equals(bytes));
      await until('both copies are counted', async () => {
        const { sessions } = await up
          .admin(SessionService)
          .listSessions({ openOnly: false, limit: 2 }, { signal: never });
        const sentUp = sessions.some(({ bytesUp }) => bytesUp >= 3_000_000n);
        return (sentUp && sessions.some(({ bytesDown }) => bytesDown >= 3_000_000n)) || undefined;
      });
    }).timeout(30_000);
  }

  it('serves sftp', async () => {
    const batch = join(folder, 'batch');
    await writeFile(
      batch,
      `put ${batch} ${folder}/put\nls ${folder}\nget ${folder}/put ${folder}/got\n`,
    );
    const { status, stdout, stderr } = await workload.run('sftp', '-b', batch, target);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /put/);
    assert.equal(await readFile(join(folder, 'got'), 'utf8'), await readFile(batch, 'utf8'));
  }).timeout(20_000);

  it('shows one certificate by ssh-add -L, and ssh-keygen reads it', async () => {
    const env = { ...process.env, SSH_AUTH_SOCK: up.json.agent.ssh_agent };
    const { stdout } = await runProgram('ssh-add', ['-L'], { env });
    assert.equal(stdout.trim().split('\n').length, 1, stdout);
    assert.match(
      stdout,
      /^ssh-ed25519-cert-v01@openssh\.com AAAA\S+ spiffe:\/\/example\.org\/ops\n$/,
    );
    const file = join(folder, 'listed-cert.pub');
    await writeFile(file, stdout);
    const read = await runProgram('ssh-keygen', ['-L', '-f', file]);
    assert.match(read.stdout, /Type: ssh-ed25519-cert-v01@openssh\.com user certificate/);
    assert.match(read.stdout, /Key ID: "spiffe:\/\/example\.org\/ops"/);
    assert.match(read.stdout, /Principals: \n\s+spiffe:\/\/example\.org\/ops\n/);
    assert.match(read.stdout, /Critical Options: \(none\)/);
    assert.match(read.stdout, /Extensions: \(none\)/);
  });

  it('writes a working ssh_config with writ ssh config', async () => {
    const out = join(folder, 'config');
    const written = await up.writ('ssh', 'config', '--out', out);
    assert.equal(written.status, 0, written.stderr);
    assert.equal(written.stdout.trim(), join(out, 'ssh_config'));
    assert.match(
      await readFile(join(out, 'known_hosts'), 'utf8'),
      /^@cert-authority .*web-1.* ssh-ed25519 /,
    );
    const args = ['-F', written.stdout.trim(), '-o', 'BatchMode=yes', target, 'echo configured'];
    const { stdout, stderr } = await runProgram('ssh', args);
    assert.equal(stdout, 'configured\n', stderr);
  }).timeout(20_000);

  it('ends a command whose output the client has stopped reading', async () => {
    const args = ['-F', up.json.demo.ssh_config ?? '', '-o', 'BatchMode=yes', target, 'yes'];
    const script = 'ssh "$@" | head -n 1';
    const read = await runProgram('bash', ['-c', script, 'bash', ...args], { timeoutMs: 10_000 });
    assert.equal(read.stdout, 'y\n', read.stderr);
    assert.equal(read.status, 0);
    const { stdout } = await workload.ssh(target, 'pgrep -x yes | wc -l');
    assert.equal(stdout.trim(), '0');
  }).timeout(20_000);

  it('refuses another login, and tells the client why', async () => {
    const { status, stderr } = await workload.ssh(`root@${target}`, 'id');
    assert.equal(status, 255);
    assert.match(stderr, /Permission denied \(publickey\)/);
    assert.match(stderr, /writ: you have no login "root" on "web-1"/);
    const events = await until('the refusal is an event', async () => {
      const denied = (await deniedEvents()).filter(({ type }) => type === 'session.denied');
      return denied.length > 0 ? denied : undefined;
    });
    assert.ok(events.some(({ backend }) => backend === target));
  }).timeout(20_000);

  it('refuses forwarding of every kind', async () => {
    const port = await unusedPort();
    const straight = await workload.ssh('-W', `127.0.0.1:${port}`, target);
    assert.notEqual(straight.status, 0);
    const remote = ['-o', 'ExitOnForwardFailure=yes', '-R', '0:127.0.0.1:1', '-N', target];
    const reversed = await workload.ssh(...remote);
    assert.notEqual(reversed.status, 0);
    const agent = await workload.ssh('-A', target, 'echo "agent:$SSH_AUTH_SOCK"');
    assert.equal(agent.stdout, 'agent:\n');
  }).timeout(30_000);

  it('allows no channel beyond the grant', async () => {
    await workload[Symbol.asyncDispose]();
    {
      const channels = { exec: [['echo', 'exactly', 'this']] };
      await using narrow = await makeSshWorkload(up, 'narrow', { channels });
      const allowed = await narrow.ssh(target, 'echo exactly this');
      assert.equal(allowed.stdout, 'exactly this\n', allowed.stderr);
      for (const command of ['echo exactly this; id', 'id', ' echo exactly this']) {
        const refused = await narrow.ssh(target, command);
        assert.equal(refused.stdout, '', command);
        assert.notEqual(refused.status, 0, command);
      }
      const shell = await narrow.ssh('-tt', target);
      assert.notEqual(shell.status, 0);
      const copied = await narrow.run('scp', join(folder, 'batch'), `${target}:${folder}/no`);
      assert.notEqual(copied.status, 0);
    }
    workload = await makeSshWorkload(up, 'ops');
  }).timeout(60_000);

  describe('threats S2', () => {
    it('a workload’s certificate does not open the target directly', async () => {
      const keys = join(folder, 'keys');
      const fetched = await up.writ('fetch', 'ssh', '--out', keys);
      assert.equal(fetched.status, 0, fetched.stderr);
      const config = await readFile(join(up.state, 'sshd/sshd_config'), 'utf8');
      const port = /ListenAddress 127\.0\.0\.1:(\d+)/.exec(config)?.[1] ?? '';
      const account = /AllowUsers (\S+)/.exec(config)?.[1] ?? '';
      const options = ['-F', 'none', '-o', 'StrictHostKeyChecking=no', '-o', 'BatchMode=yes'];
      const known = [
        '-o',
        `UserKnownHostsFile=${join(folder, 'kh')}`,
        '-i',
        join(keys, 'id_ed25519'),
      ];
      const args = [...options, ...known, '-p', port, `${account}@127.0.0.1`, 'id'];
      const { status, stdout, stderr } = await runProgram('ssh', args);
      assert.equal(status, 255);
      assert.equal(stdout, '');
      assert.match(stderr, /Permission denied \(publickey\)/);
    }).timeout(20_000);

    it('a certificate for one backend does not open another', async () => {
      const config = await readFile(join(up.state, 'sshd/sshd_config'), 'utf8');
      const address = /ListenAddress (\S+)/.exec(config)?.[1] ?? '';
      const account = /AllowUsers (\S+)/.exec(config)?.[1] ?? '';
      const pem = await readFile(join(up.state, 'sshd/ssh_host_ed25519_key'));
      const key = join(folder, 'host_key');
      await writeFile(key, pem, { mode: 0o600 });
      const line = (await runProgram('ssh-keygen', ['-y', '-f', key])).stdout.trim();
      const other = {
        kind: 'Backend',
        name: 'web-2',
        type: 'ssh',
        environment: 'demo',
        ssh: { address, host_key: line, logins: { deploy: { account } } },
      };
      const grant = sshGrantDocument('ops-on-web-2', workload.spiffeId, { backend: 'web-2' });
      await applyDocuments(up, [other, grant]);
      const out = join(folder, 'config-2');
      const written = await up.writ('ssh', 'config', '--out', out);
      const args = ['-F', written.stdout.trim(), '-o', 'BatchMode=yes', 'web-2', 'id'];
      const { status, stdout, stderr } = await runProgram('ssh', args);
      assert.notEqual(status, 0);
      assert.equal(stdout, '');
      assert.match(stderr, /the target refuses the gateway's certificate/);
    }).timeout(30_000);
  });

  it('tells of a target that cannot be reached', async () => {
    const port = await unusedPort();
    const gone = {
      kind: 'Backend',
      name: 'gone',
      type: 'ssh',
      environment: 'demo',
      ssh: { address: `127.0.0.1:${port}`, host_ca: 'trust-domain', logins: { deploy: {} } },
    };
    const grant = sshGrantDocument('ops-on-gone', workload.spiffeId, { backend: 'gone' });
    await applyDocuments(up, [gone, grant]);
    const out = join(folder, 'config-3');
    const written = await up.writ('ssh', 'config', '--out', out);
    const args = ['-F', written.stdout.trim(), '-o', 'BatchMode=yes', 'gone', 'id'];
    const { status, stderr } = await runProgram('ssh', args);
    assert.equal(status, 255);
    assert.match(stderr, /gone cannot be reached \(ECONNREFUSED\)/);
  }).timeout(20_000);

  it('enrols a target of one’s own, whose sshd takes the files as they are written', async () => {
    const out = join(folder, 'enrol');
    const key = join(folder, 'own_host_key');
    await runProgram('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
    const port = await unusedPort();
    const account = userInfo().username;
    const backend = {
      kind: 'Backend',
      name: 'own-1',
      type: 'ssh',
      environment: 'demo',
      ssh: {
        address: `127.0.0.1:${port}`,
        host_ca: 'trust-domain',
        logins: { deploy: { account } },
      },
    };
    const grant = sshGrantDocument('ops-on-own-1', workload.spiffeId, { backend: 'own-1' });
    await applyDocuments(up, [backend, grant]);
    const args = ['ssh', 'host', 'enroll', 'own-1', '--host-key', `${key}.pub`, '--out', out];
    const enrolled = await up.writ(...args);
    assert.equal(enrolled.status, 0, enrolled.stderr);
    const certificate = await runProgram('ssh-keygen', ['-L', '-f', join(out, 'host-cert.pub')]);
    assert.match(certificate.stdout, /host certificate/);
    assert.match(certificate.stdout, /Principals: \n\s+own-1\n/);
    const config = (await readFile(join(out, 'sshd_config'), 'utf8')).replaceAll(
      '/etc/ssh/writ',
      out,
    );
    const file = join(folder, 'own_sshd_config');
    const own = [`ListenAddress 127.0.0.1:${port}`, `HostKey ${key}`, 'PidFile none'];
    // The files lie below a folder that everybody writes to.
    await writeFile(file, [...own, 'StrictModes no', config].join('\n'));
    const asked = ['-T', '-f', file, '-C', `user=${account},host=localhost,addr=127.0.0.1`];
    const rules = await runProgram('/usr/sbin/sshd', asked);
    // Keys that a session leaves there must not be a way back.
    assert.match(rules.stdout, /^authorizedkeysfile none$/m, rules.stderr);
    await using _ = await launchSshd(file, port);
    const written = await up.writ('ssh', 'config', '--out', join(folder, 'config-4'));
    const login = ['-F', written.stdout.trim(), '-o', 'BatchMode=yes', 'own-1', 'id -un'];
    const { stdout, stderr } = await runProgram('ssh', login);
    assert.equal(stdout, `${account}\n`, stderr);
  }).timeout(20_000);
});
