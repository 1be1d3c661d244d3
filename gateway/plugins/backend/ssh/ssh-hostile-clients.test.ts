import assert from 'node:assert/strict';
import { once } from 'node:events';
import { truncate, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { until } from '../../../../test/fakes/gateway-under-test.ts';
import { descendants } from '../../../../test/fixtures/process-facts.ts';
import {
  DIRECT,
  eventually,
  type SshTestClient,
  WEB,
} from '../../../../test/fixtures/ssh-client.ts';
import { recorded, SshGateway } from '../../../../test/fixtures/ssh-gateway.ts';
import { requireSshd } from '../../../../test/fixtures/ssh-target.ts';
import { STRANGERS } from '../../../listener/listen-tcp.ts';

describe('sshBackend, a client that', function () {
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
  beforeEach(() => until(() => gateway.target.isIdle));

  const closedReason = async () => recorded(await gateway.record()).closed[0]?.reason;
  const runs = (program: string) => until(() => gateway.target.programs.includes(program));
  it('is killed leaves nothing on the target', async () => {
    for (const args of [['web-1'], DIRECT]) {
      const mark = gateway.target.mark();
      const child = client.start([...args, `trap '' HUP; ${mark}; ${mark}`]);
      await runs(mark);
      child.kill('SIGKILL');
      await until(() => gateway.target.isIdle);
      assert.equal(await closedReason(), 'the client closed the connection');
    }
  });

  it('is killed in the middle of a transfer leaves the gateway as it was', async () => {
    const big = join(gateway.target.directory, 'big');
    await writeFile(big, '');
    await truncate(big, 2 ** 32);
    for (let n = 0; n < 6; n += 1) {
      const child = client.start(['-O', `web-1:${big}`, 'sunk'], 'scp');
      await until(() => gateway.target.isRunning(`scp -f ${big}`));
      for (const pid of descendants(child.pid ?? 0)) process.kill(pid, 'SIGKILL');
      child.kill('SIGKILL');
      await until(() => gateway.target.isIdle);
    }
    assert.equal((await client.ssh([...DIRECT, 'echo still'])).stdout, 'still\n');
  });

  it('closes one channel kills what it ran, and goes on', async () => {
    const { key } = client;
    const certificate = gateway.server.ssh.issueUser(WEB, key);
    const connection = await gateway.connect({ key, certificate });
    const env = new Map<string, string>();
    const mark = gateway.target.mark();
    const command = `trap '' HUP; ${mark}; ${mark}`;
    const channel = await connection.open({ kind: 'exec', command, env });
    await runs(mark);
    channel.close();
    await until(() => !gateway.target.isRunning(mark));
    const next = await connection.open({ kind: 'exec', command: 'echo next', env });
    assert.equal(await text(next.output), 'next\n');
    assert.deepEqual(await next.exit, { code: 0 });
    connection.end();
    const { channelClosed } = recorded(await gateway.record());
    assert.deepEqual(
      channelClosed.map(({ exitStatus }) => exitStatus),
      [undefined, 0],
    );
  });

  it('sends its end at once, garbage, or nothing costs its connection alone', async () => {
    const strangers: Socket[] = [];
    for (const bytes of [
      ...['', 'GET / HTTP/1.1\r\n\r\n', 'SSH-2.0-x\r\n', 'SSH-1.5-old\n', '\0'.repeat(70_000)],
      `SSH-2.0-x\r\n${'\xff'.repeat(40_000)}`,
      `SSH-2.0-x\r\n\0\0\0\x0c\x04\x14${'A'.repeat(64)}`,
    ]) {
      const socket = connect(gateway.port, '127.0.0.1');
      socket.on('error', () => undefined);
      socket.end(Buffer.from(bytes, 'latin1'));
      socket.resume();
      strangers.push(socket);
    }
    await until(() => strangers.every((socket) => socket.closed));
    assert.equal((await client.ssh([...DIRECT, 'echo still'])).stdout, 'still\n');
  });

  it('opens more channels than ten is refused those', async () => {
    const path = join(client.directory, 'ten');
    const master = await client.startMaster(path, ...DIRECT);
    const mark = gateway.target.mark();
    const children = Array.from({ length: 10 }, () => client.start(['-S', path, ...DIRECT, mark]));
    await until(() => gateway.target.programs.filter((line) => line === mark).length === 10);
    const { status, stderr } = await client.ssh([
      ...['-S', path, '-o', 'ControlMaster=no', '-o', 'ProxyCommand=false', ...DIRECT, 'true'],
    ]);
    assert.notEqual(status, 0);
    assert.match(stderr, /too many channels|refused by/i);
    for (const child of children) child.kill('SIGKILL');
    master.kill();
    await once(master, 'exit');
  });

  it('has proved nothing has its most of connections, and who has is not counted', async () => {
    const strangers = Array.from({ length: STRANGERS.maximumPerAddress }, () => {
      const socket = connect(gateway.port, '127.0.0.1');
      socket.on('error', () => undefined);
      socket.resume();
      return socket;
    });
    await until(() => strangers.every((socket) => socket.bytesRead > 0));
    const { status } = await client.ssh([...DIRECT, 'true']);
    assert.equal(status, 255);
    await until(() => gateway.refused.some((reason) => /without a login/.test(reason)));
    for (const socket of strangers) socket.destroy();
    await eventually(async () => (await client.ssh([...DIRECT, 'true'])).status === 0);
  });
});
