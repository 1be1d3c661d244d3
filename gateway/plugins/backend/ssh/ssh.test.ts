import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseSshCertificate } from '../../../../identity/ssh/certificate.ts';
import { publicKeyLine } from '../../../../identity/ssh/public-key.ts';
import { until } from '../../../../test/fakes/gateway-under-test.ts';
import { skipWithoutTerminals } from '../../../../test/fixtures/programs.ts';
import {
  DIRECT,
  eventually,
  outcomeOf,
  type SshTestClient,
  WEB,
} from '../../../../test/fixtures/ssh-client.ts';
import { type RecordedCase, recorded, SshGateway } from '../../../../test/fixtures/ssh-gateway.ts';
import { requireSshd } from '../../../../test/fixtures/ssh-target.ts';

describe('sshBackend', function () {
  this.timeout(60_000);
  let gateway: SshGateway;
  let client: SshTestClient;
  before(async function () {
    requireSshd(this);
    gateway = await SshGateway.start();
    client = await gateway.client();
  });
  after(async () => {
    await gateway?.[Symbol.asyncDispose]();
  });

  const record = async () => recorded(await gateway.record());
  const inTarget = (name: string) => join(gateway.target.directory, name);
  const inClient = (name: string) => join(client.directory, name);
  const outputOf = (events: RecordedCase<'channelOutput'>[], isStderr = false) =>
    Buffer.concat(events.filter((one) => one.isStderr === isStderr).map(({ data }) => data));

  describe('a command', () => {
    for (const [how, args] of [
      ['by ProxyJump', ['web-1']],
      ['by a user name that says where to', DIRECT],
    ] as const) {
      it(`runs ${how}, with both outputs and its status, and is recorded`, async () => {
        const command = 'echo out; echo err >&2; exit 3';
        const outcome = await client.ssh([...args, command]);
        assert.deepEqual(outcome, { status: 3, stdout: 'out\n', stderr: 'err\n' });
        const { opened, channelOpened, channelOutput, channelClosed, closed } = await record();
        assert.equal(opened[0]?.client.login, 'deploy');
        assert.deepEqual(
          channelOpened.map((one) => [one.channel, one.kind, one.command, one.deniedBy]),
          [[1, 'exec', command, '']],
        );
        assert.equal(channelOpened[0]?.terminal, undefined);
        assert.equal(String(outputOf(channelOutput)), 'out\n');
        assert.equal(String(outputOf(channelOutput, true)), 'err\n');
        const [end] = channelClosed;
        assert.deepEqual([end?.exitStatus, end?.bytesUp, end?.bytesDown], [3, 0n, 8n]);
        assert.equal(closed[0]?.reason, 'the client closed the connection');
      });
    }

    it('opens one session, on the proof of the client, and one login, of the gateway', async () => {
      const before = gateway.server.signed.length;
      await client.ssh(['web-1', 'true']);
      const opened = gateway.server.opened.at(-1);
      assert.deepEqual(
        [opened?.backend, opened?.login, opened?.clientChain.length],
        ['web-1', 'deploy', 0],
      );
      assert.ok((opened?.sshProof?.signature.length ?? 0) > 64);
      assert.equal(gateway.server.signed.length, before + 1);
      const { serial } = parseSshCertificate(opened?.sshProof?.certificate ?? new Uint8Array());
      const line = `ID ${WEB} session=${gateway.lastSession} serial=${serial}`;
      assert.ok(gateway.target.log.includes(line), 'the target tells whose session it is');
    });

    it('tells the signal that ended it', async () => {
      const { status } = await client.ssh(['web-1', 'kill -TERM $$']);
      assert.notEqual(status, 0);
      const { channelClosed } = await record();
      const [end] = channelClosed;
      assert.deepEqual([end?.exitSignal, end?.exitStatus], ['TERM', undefined]);
    });

    it('gets its input byte by byte, and keeps the first MiB of the output', async () => {
      const input = randomBytes(3 * 1024 * 1024);
      await writeFile(inClient('in'), input);
      const child = client.start(['web-1', 'cat']);
      child.stdin?.end(input);
      const { status, stdout } = await outcomeOf(child);
      assert.equal(status, 0);
      assert.ok(Buffer.from(stdout, 'latin1').equals(input));
      const { channelOutput, channelClosed } = await record();
      const kept = outputOf(channelOutput);
      const [end] = channelClosed;
      assert.ok(kept.equals(input.subarray(0, 1024 * 1024)));
      const length = BigInt(input.length);
      assert.deepEqual([end?.bytesUp, end?.bytesDown], [length, length]);
      assert.equal(end?.bytesOmitted, length - 1_048_576n);
      const rest = createHash('sha256')
        .update(input.subarray(1024 * 1024))
        .digest();
      assert.deepEqual(Buffer.from(end?.omittedSha256 ?? []), rest);
    });

    it('ends with its input where that is empty, or closed at once', async () => {
      const { status, stdout } = await client.ssh(['-n', 'web-1', 'cat; echo end']);
      assert.deepEqual([status, stdout], [0, 'end\n']);
      const { stdout: none } = await client.ssh(['web-1', 'wc -c'], '');
      assert.equal(none.trim(), '0');
    });

    it('goes on while keys are renewed', async () => {
      const input = randomBytes(6 * 1024 * 1024);
      const child = client.start(['-o', 'RekeyLimit=1M', ...DIRECT, 'sha256sum']);
      child.stdin?.end(input);
      const { status, stdout } = await outcomeOf(child);
      const hash = createHash('sha256').update(input).digest('hex');
      assert.deepEqual([status, stdout.split(' ')[0]], [0, hash]);
    });

    it('gets LANG and LC_*, and nothing else of the client', async () => {
      const { stdout } = await client.ssh([
        ...['-o', 'SetEnv=LANG=xx LC_WRIT=yes WRIT=no LD_PRELOAD=/no'],
        ...['web-1', 'echo "$LANG,$LC_WRIT,$WRIT,$LD_PRELOAD"'],
      ]);
      assert.equal(stdout, 'xx,yes,,\n');
    });

    it('leaves what it started in the background, as a login without a gateway does', async () => {
      const mark = `sleep 4${Date.now()}`.slice(0, 16);
      const { status } = await client.ssh(['web-1', `${mark} >/dev/null 2>&1 </dev/null &`]);
      assert.equal(status, 0);
      await gateway.record();
      const { stdout } = await client.ssh(['web-1', `pkill -xf '${mark}' && echo was there`]);
      assert.equal(stdout, 'was there\n');
    });
  });

  describe('a shell', () => {
    it('runs without a terminal, recorded wholly', async () => {
      const { status, stdout } = await client.ssh(['web-1'], 'echo $((6 * 7))\nexit 4\n');
      // Before it the machine may say who it is.
      assert.match(stdout, /(^|\n)42\n$/);
      assert.equal(status, 4);
      const { channelOpened, channelOutput } = await record();
      assert.deepEqual([channelOpened[0]?.kind, channelOpened[0]?.command], ['shell', '']);
      assert.equal(String(outputOf(channelOutput)), stdout);
    });

    it('runs in a terminal, recorded with its size', async function () {
      skipWithoutTerminals(this);
      const { stdout } = await client.ssh(['-tt', ...DIRECT], 'tty; exit 5\n');
      assert.match(stdout, /\/dev\/pts\/\d+/);
      const { channelOpened, channelOutput, channelClosed } = await record();
      assert.notEqual(channelOpened[0]?.terminal, undefined);
      assert.equal(String(outputOf(channelOutput)), stdout);
      assert.equal(channelClosed[0]?.exitStatus, 5);
    });

    it('follows the size of its terminal', async function () {
      skipWithoutTerminals(this);
      const ssh = `ssh -F ${client.config} -tt web-1 "stty size; read line; stty size"`;
      // stty sets columns and rows one after the other, so that two sizes may be sent.
      const before = gateway.server.opened.length;
      const steps = [
        'stty cols 91 rows 31',
        `(sleep 1; stty cols 123 rows 45 <"$(readlink /proc/$$/fd/0)"; sleep 0.5; :) &`,
        ssh,
      ];
      const child = client.startOther('script', ['-qec', steps.join('\n'), '/dev/null']);
      const ended = outcomeOf(child);
      await until(() => gateway.server.opened.length > before);
      await eventually(async () => {
        const { channelResized } = recorded(await gateway.record(gateway.lastSession, 'now'));
        const last = channelResized.at(-1);
        return last?.columns === 123 && last.rows === 45;
      });
      child.stdin?.write('\n');
      const { stdout } = await ended;
      const sizes = [...stdout.matchAll(/\d+ \d+/g)].map(([size]) => size);
      assert.deepEqual(sizes, ['31 91', '45 123']);
      const { channelOpened, channelResized } = await record();
      const terminal = channelOpened[0]?.terminal;
      assert.deepEqual([terminal?.columns, terminal?.rows], [91, 31]);
      const resized = channelResized.at(-1);
      assert.deepEqual([resized?.columns, resized?.rows], [123, 45]);
    });
  });

  it('hands signals and sizes on to what runs, those that came early too', async function () {
    skipWithoutTerminals(this);
    const { key } = client;
    const certificate = gateway.server.ssh.issueUser(WEB, key);
    const connection = await gateway.connect({ key, certificate });
    const size = { columns: 80, rows: 24, width: 0, height: 0 };
    const channel = await connection.open({
      kind: 'exec',
      command: `trap 'stty size; exit 9' USR1; echo ready; while :; do sleep 0.05; done`,
      pty: { ...size, term: 'vt100', modes: new Uint8Array([0]) },
      env: new Map(),
    });
    channel.resize({ ...size, columns: 101 });
    const seen: Buffer[] = [];
    channel.output.on('data', (data) => seen.push(data));
    await until(() => Buffer.concat(seen).includes('ready'));
    channel.signal('USR1');
    assert.deepEqual(await channel.exit, { code: 9 });
    assert.match(String(Buffer.concat(seen)), /24 101/);
    connection.end();
    await connection.closed;
  });

  describe('a transfer', () => {
    const content = randomBytes(2_500_000);
    before(() => writeFile(inClient('local'), content));
    const sameAs = async (path: string) => assert.ok((await readFile(path)).equals(content));

    for (const [how, flags, kind] of [
      ['scp', [], 'sftp'],
      ['scp -O', ['-O'], 'scp'],
    ] as const) {
      it(`goes both ways by ${how}, counted and not kept`, async () => {
        const remote = inTarget(`by-${kind}`);
        const up = await client.run('scp', [...flags, 'local', `web-1:${remote}`]);
        assert.deepEqual([up.status, up.stderr], [0, '']);
        await sameAs(remote);
        const sent = await record();
        assert.equal(sent.channelOpened[0]?.kind, kind);
        assert.ok((sent.channelClosed[0]?.bytesUp ?? 0n) > BigInt(content.length));
        const down = await client.run('scp', [...flags, `web-1:${remote}`, `back-${kind}`]);
        assert.deepEqual([down.status, down.stderr], [0, '']);
        await sameAs(inClient(`back-${kind}`));
        const { channelOutput, channelClosed } = await record();
        assert.deepEqual(channelOutput, []);
        const [end] = channelClosed;
        assert.ok((end?.bytesDown ?? 0n) > BigInt(content.length));
        assert.equal(end?.bytesOmitted, end?.bytesDown);
      });
    }

    it('goes both ways by sftp', async () => {
      const remote = inTarget('by-hand');
      const batch = `put local ${remote}\nget ${remote} back-by-hand\nls -l ${remote}\n`;
      const { status } = await client.run('sftp', ['-b', '-', 'web-1'], batch);
      assert.equal(status, 0);
      await sameAs(remote);
      await sameAs(inClient('back-by-hand'));
      const { channelOpened, channelOutput } = await record();
      assert.deepEqual([channelOpened[0]?.kind, channelOutput.length], ['sftp', 0]);
    });
  });

  it('serves several channels of one session, each with its number', async () => {
    const path = inClient('master');
    const opened = gateway.server.opened.length;
    const master = await client.startMaster(path, 'web-1');
    const through = (command: string) => client.ssh(['-S', path, 'web-1', command]);
    const outcomes = await Promise.all(['echo a', 'echo b; exit 2', 'echo c'].map(through));
    assert.deepEqual(
      outcomes.map(({ stdout, status }) => [stdout, status]),
      [
        ['a\n', 0],
        ['b\n', 2],
        ['c\n', 0],
      ],
    );
    const exited = once(master, 'exit');
    await client.ssh(['-S', path, '-O', 'exit', 'web-1']);
    await exited;
    assert.equal(gateway.server.opened.length, opened + 1);
    const { channelOpened, channelClosed } = await record();
    const numbers = channelOpened.map(({ channel }) => channel);
    assert.deepEqual(numbers, [1, 2, 3]);
    assert.equal(channelClosed.length, 3);
  });

  it('leads by one connection to several sessions, and ends none with another', async () => {
    const path = inClient('hop');
    const jump = ['-o', `ProxyCommand=ssh -F ${client.config} -S ${path} -W %h:%p gw`];
    const hop = await client.startMaster(path, 'gw');
    const long = client.start([...jump, 'web-1', 'cat']);
    const answer = once(long.stdout ?? assert.fail(), 'data');
    long.stdin?.write('first\n');
    await answer;
    const { stdout } = await client.ssh([...jump, 'web-1', 'echo short']);
    assert.equal(stdout, 'short\n');
    await gateway.record();
    // Longer than a session has for its end.
    await sleep(1200);
    const ended = outcomeOf(long);
    long.stdin?.end('second\n');
    assert.deepEqual([(await ended).status, long.exitCode], [0, 0]);
    const exited = once(hop, 'exit');
    await exited;
  });

  it('takes the grant that the client names, in either form', async () => {
    await gateway.declare(
      [gateway.backend('web-1')],
      [gateway.grant('ops'), gateway.grant('looks', { rights: { commands: ['id -un'] } })],
    );
    for (const args of [
      ['-l', 'deploy+looks', 'web-1'],
      ['-l', 'deploy+web-1+looks', 'gw'],
    ]) {
      const { status } = await client.ssh([...args, 'id -un']);
      assert.equal(status, 0);
      assert.equal(gateway.server.opened.at(-1)?.grant, 'looks');
    }
    await gateway.declare([gateway.backend('web-1')], [gateway.grant('ops')]);
  });

  it('shows one plain key to who pins that', async () => {
    const scan = await outcomeOf(
      client.startOther('ssh-keyscan', [
        ...['-p', String(gateway.port), '-t', 'ed25519', '127.0.0.1'],
      ]),
    );
    const key = scan.stdout.split(' ').slice(1).join(' ').trim();
    assert.match(key, /^ssh-ed25519 /);
    await writeFile(inClient('pinned'), `* ${key}\n`);
    const { stdout } = await client.ssh([
      ...['-o', `UserKnownHostsFile=${inClient('pinned')}`],
      ...['-o', 'HostKeyAlgorithms=ssh-ed25519', ...DIRECT, 'echo pinned'],
    ]);
    assert.equal(stdout, 'pinned\n');
  });

  it('proves itself to nobody who trusts another authority', async () => {
    const other = publicKeyLine(gateway.target.hostKey);
    await writeFile(inClient('others'), `@cert-authority * ${other}\n`);
    const { status, stderr } = await client.ssh([
      ...['-o', `UserKnownHostsFile=${inClient('others')}`, ...DIRECT, 'true'],
    ]);
    assert.equal(status, 255);
    assert.match(stderr, /Host key verification failed/);
  });
});
