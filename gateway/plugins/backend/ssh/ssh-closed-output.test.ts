import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { until } from '../../../../test/fakes/gateway-under-test.ts';
import {
  hasProgram,
  skipWithout,
  skipWithoutTerminals,
} from '../../../../test/fixtures/programs.ts';
import {
  DIRECT,
  type Outcome,
  outcomeOf,
  type SshTestClient,
  WEB,
} from '../../../../test/fixtures/ssh-client.ts';
import { recorded, SshGateway } from '../../../../test/fixtures/ssh-gateway.ts';
import { requireSshd } from '../../../../test/fixtures/ssh-target.ts';

const MIB = 2 ** 20;
/** What may be on its way when a client closes its output: the windows, and the pipes between. */
const ON_ITS_WAY = 16 * MIB;

describe('sshBackend, for a client that closes its output', function () {
  this.timeout(60_000);
  let gateway: SshGateway;
  let client: SshTestClient;
  let big: string;
  before(async function () {
    requireSshd(this);
    if (!hasProgram('bash')) skipWithout(this, 'bash');
    gateway = await SshGateway.start();
    client = await gateway.client();
    big = join(gateway.target.directory, 'big');
    await writeFile(big, 'first\n');
    await truncate(big, 64 * MIB);
  });
  after(async () => {
    await gateway?.[Symbol.asyncDispose]();
  });
  beforeEach(() => until(() => gateway.target.isIdle));

  const record = async () => recorded(await gateway.record());

  /** `ssh ARGS | head -n 1`, with ssh's status. */
  function pipedToHead(...args: readonly string[]): Promise<Outcome> {
    const script = 'set -o pipefail; ssh -F "$0" "$@" | head -n 1';
    return outcomeOf(client.startOther('bash', ['-c', script, client.config, ...args]));
  }

  for (const [how, args] of [
    ['by ProxyJump', ['web-1']],
    ['by a user name that says where to', DIRECT],
  ] as const) {
    it(`ends a program that writes without end, as sshd alone does, ${how}`, async () => {
      const outcome = await pipedToHead(...args, 'yes');
      assert.deepEqual(outcome, { status: 255, stdout: 'y\n', stderr: '' });
      await until(() => gateway.target.isIdle);
      const { channelOutput, channelClosed } = await record();
      const [end] = channelClosed;
      assert.deepEqual([end?.exitSignal, end?.exitStatus], ['PIPE', undefined]);
      assert.equal(String(channelOutput[0]?.data).slice(0, 2), 'y\n');
      assert.ok((end?.bytesDown ?? 0n) < ON_ITS_WAY, `${end?.bytesDown} bytes`);
    });

    it(`ends a file that it reads the head of, and records what was on its way, ${how}`, async () => {
      const outcome = await pipedToHead(...args, `cat ${big}`);
      assert.deepEqual(outcome, { status: 255, stdout: 'first\n', stderr: '' });
      const { channelOutput, channelClosed } = await record();
      const [end] = channelClosed;
      const kept = channelOutput.reduce((sum, { data }) => sum + data.length, 0);
      assert.equal(end?.bytesDown, BigInt(kept) + (end?.bytesOmitted ?? 0n));
      assert.ok((end?.bytesDown ?? 0n) < ON_ITS_WAY, `${end?.bytesDown} bytes`);
      if ((end?.bytesOmitted ?? 0n) === 0n) return;
      const rest = Buffer.alloc(Number(end?.bytesOmitted));
      const digest = createHash('sha256').update(rest).digest();
      assert.deepEqual(Buffer.from(end?.omittedSha256 ?? []), digest);
    });
  }

  it('ends what it runs on a terminal, where sshd alone waits for ever', async function () {
    skipWithoutTerminals(this);
    const { status, stdout } = await pipedToHead('-tt', 'web-1', 'yes');
    assert.deepEqual([status, stdout], [255, 'y\r\n']);
    await until(() => gateway.target.isIdle);
    const { channelClosed } = await record();
    assert.deepEqual(
      channelClosed.map(({ exitSignal, exitStatus }) => [exitSignal, exitStatus]),
      [['', undefined]],
    );
  });

  it('lets a program go on that does not mind, and tells its status', async () => {
    const done = join(gateway.target.directory, 'done');
    const outcome = await pipedToHead('web-1', `yes; echo $? >${done}; exit 7`);
    assert.deepEqual(outcome, { status: 7, stdout: 'y\n', stderr: '' });
    // SIGPIPE is 13.
    assert.equal(await readFile(done, 'utf8'), `${128 + 13}\n`);
    const { channelClosed } = await record();
    assert.equal(channelClosed[0]?.exitStatus, 7);
  });

  it('records what came before the client said so, and nothing of what comes after', async () => {
    const { key } = client;
    const certificate = gateway.server.ssh.issueUser(WEB, key);
    const connection = await gateway.connect({ key, certificate });
    // What the shell says of its own failure may come before sshd is told.
    const command = `exec 2>/dev/null; trap '' PIPE; echo before; read x; echo after; exit 3`;
    const channel = await connection.open({ kind: 'exec', command, env: new Map() });
    await once(channel.output, 'data');
    assert.equal(channel.refuseOutput(), true);
    channel.input.end('go\n');
    assert.deepEqual(await channel.exit, { code: 3 });
    connection.end();
    await connection.closed;
    const { channelOutput, channelClosed } = await record();
    assert.equal(String(Buffer.concat(channelOutput.map(({ data }) => data))), 'before\n');
    const [end] = channelClosed;
    assert.deepEqual([end?.bytesDown, end?.bytesUp, end?.bytesOmitted], [7n, 3n, 0n]);
  });

  it('ends no other channel of the same connection', async () => {
    const path = join(client.directory, 'shared');
    const master = await client.startMaster(path, ...DIRECT);
    const long = client.start(['-S', path, ...DIRECT, 'cat']);
    const answer = once(long.stdout ?? assert.fail(), 'data');
    long.stdin?.write('first\n');
    await answer;
    assert.equal((await pipedToHead('-S', path, ...DIRECT, 'yes')).stdout, 'y\n');
    assert.equal(await lastLine(long, 'second\n'), 'second\n');
    const exited = once(master, 'exit');
    await client.ssh(['-S', path, '-O', 'exit', ...DIRECT]);
    await exited;
  });
});

async function lastLine(child: ChildProcess, input: string): Promise<string> {
  const outcome = outcomeOf(child);
  child.stdin?.end(input);
  return (await outcome).stdout;
}
