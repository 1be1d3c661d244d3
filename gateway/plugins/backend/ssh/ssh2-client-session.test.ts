import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Readable } from 'node:stream';
import { skipWithoutTerminals } from '../../../../test/fixtures/programs.ts';
import { requireSshd } from '../../../../test/fixtures/ssh-target.ts';
import { eventually, settled } from '../../../../test/fixtures/ssh2-server.ts';
import { exec, NO_ENV, run, SshdWorld, textOf } from '../../../../test/fixtures/ssh2-sshd.ts';
import { unavailable } from '../../../../test/fixtures/unavailable.ts';
import type { SshClientConnection } from './ssh2-client.ts';

const MEBIBYTE = 2 ** 20;
const PTY = { term: 'xterm', columns: 101, rows: 33, width: 0, height: 0 };

describe('SshClientConnection', () => {
  let world: SshdWorld;

  before(async function () {
    requireSshd(this);
    world = await SshdWorld.start();
  });
  after(async () => {
    await world?.[Symbol.asyncDispose]();
  });
  afterEach(() => world.reset());

  describe('opens', () => {
    it('a command, keeping its two outputs apart and its status', async () => {
      const connection = await world.logIn(world.sshd);
      const outcome = await run(connection, 'echo out; echo err >&2; exit 42');
      assert.deepEqual(outcome, { stdout: 'out\n', stderr: 'err\n', status: { code: 42 } });
    });

    it('a command that a signal ends', async () => {
      const connection = await world.logIn(world.sshd);
      const { status } = await run(connection, 'kill -TERM $$');
      assert.ok(status !== undefined && 'signal' in status);
      assert.deepEqual([status.signal, status.coreDumped], ['TERM', false]);
    });

    it('a command that gets its input and the end of it', async () => {
      const connection = await world.logIn(world.sshd);
      const sample = randomBytes(4 * MEBIBYTE);
      const channel = await connection.open(exec('sha256sum'));
      channel.input.end(sample);
      const digest = createHash('sha256').update(sample).digest('hex');
      assert.equal(await textOf(channel.output), `${digest}  -\n`);
      assert.deepEqual(await channel.exit, { code: 0 });
    });

    it('a command that gets signals', async () => {
      const connection = await world.logIn(world.sshd);
      const channel = await connection.open(
        exec('trap "echo hup; exit 3" HUP; echo on; sleep 9 & wait'),
      );
      channel.output.once('data', () => channel.signal('HUP'));
      assert.match(await textOf(channel.output), /hup/);
      assert.deepEqual(await channel.exit, { code: 3 });
    });

    it('a command that is told when its output is not taken', async () => {
      const connection = await world.logIn(world.sshd);
      const channel = await connection.open(exec('yes; exit $?'));
      await once(channel.output, 'data');
      assert.equal(channel.refuseOutput(), true);
      assert.equal(channel.refuseOutput(), true);
      channel.output.on('data', () => assert.fail('it takes more'));
      // SIGPIPE is 13.
      assert.deepEqual(await channel.exit, { code: 128 + 13 });
    });

    it('a terminal of the size, the modes and the environment that were asked for', async function () {
      skipWithoutTerminals(this);
      const connection = await world.logIn(world.sshd);
      // VINTR (1) is ^A; TTY_OP_END (0).
      const modes = Buffer.from([1, 0, 0, 0, 1, 0]);
      const channel = await connection.open({
        ...{ kind: 'exec', command: 'echo $TERM $LC_TEST; stty size; stty -a; read x; stty size' },
        ...{ pty: { ...PTY, modes }, env: new Map([['LC_TEST', 'given']]) },
      });
      let shown = '';
      channel.output.on('data', (data: Buffer) => {
        shown += data.toString();
      });
      await eventually(() => /iexten/.test(shown));
      channel.resize({ ...PTY, columns: 77, rows: 22 });
      channel.input.write('\n');
      await channel.exit;
      assert.match(shown, /xterm given\r\n33 101\r\n/);
      assert.match(shown, /intr = \^A/);
      assert.match(shown, /22 77/);
    });

    it('a subsystem', async () => {
      const connection = await world.logIn(world.sshd);
      const channel = await connection.open({ kind: 'subsystem', command: 'sftp', env: NO_ENV });
      // SSH_FXP_INIT of version 3 is answered by SSH_FXP_VERSION.
      channel.input.write(Buffer.from('00000005010000000 3'.replace(' ', ''), 'hex'));
      const [first] = await take(channel.output, 5);
      assert.equal(first?.[4], 2);
      channel.close();
      await channel.exit;
    });

    it('nothing that the target refuses', async () => {
      const connection = await world.logIn(world.sshd);
      const request = { kind: 'subsystem', command: 'unheard-of', env: NO_ENV } as const;
      await assert.rejects(
        connection.open(request),
        unavailable('the target refuses the subsystem'),
      );
      const noPty = world.certificate(world.key, []);
      const other = await world.logIn(world.sshd, { certificate: noPty });
      const terminal = { ...exec('true'), pty: { ...PTY, modes: Buffer.of(0) } };
      await assert.rejects(other.open(terminal), unavailable('the target refuses the terminal'));
    });

    it('several channels at once', async () => {
      const connection = await world.logIn(world.sshd);
      const outcomes = await Promise.all(
        Array.from({ length: 8 }, (_, i) => run(connection, `head -c 300000 /dev/zero; exit ${i}`)),
      );
      assert.deepEqual(
        outcomes.map(({ stdout, status }) => [stdout.length, status]),
        Array.from({ length: 8 }, (_, code) => [300_000, { code }]),
      );
    });

    it('nothing on a connection that is closed', async () => {
      const connection = await world.logIn(world.sshd);
      connection.end();
      await connection.closed;
      await assert.rejects(connection.open(exec('true')), unavailable('the connection is closed'));
    });
  });

  describe('keeps data unchanged', () => {
    it('while it renews the keys', async () => {
      const limits = { rekeyBytes: MEBIBYTE, rekeyMs: 3_600_000, pendingBytes: 8 * MEBIBYTE };
      await expectEcho(await world.logIn(world.sshd, { limits }));
    });

    it('while the target renews the keys', async () => {
      const other = await world.startWith(['RekeyLimit 1M']);
      await expectEcho(await world.logIn(other));
    });

    async function expectEcho(connection: SshClientConnection): Promise<void> {
      const sample = randomBytes(8 * MEBIBYTE);
      const channel = await connection.open(exec('cat'));
      channel.input.end(sample);
      const chunks: Buffer[] = [];
      for await (const chunk of channel.output) chunks.push(Buffer.from(chunk));
      assert.ok(sample.equals(Buffer.concat(chunks)));
      assert.deepEqual(await channel.exit, { code: 0 });
    }
  });

  describe('bounds', () => {
    it('what a target sends to a reader that does not read, and goes on with it', async () => {
      const stream = connect(world.sshd.port, '127.0.0.1');
      const connection = await world.logIn(world.sshd, { stream });
      const channel = await connection.open(exec('cat /dev/zero'));
      const kept = await settled(() => stream.bytesRead);
      assert.ok(kept < 3 * MEBIBYTE, `${kept} bytes`);
      channel.output.resume();
      await eventually(() => stream.bytesRead > 16 * MEBIBYTE);
    });

    it('what a writer hands over for a program that does not read', async () => {
      const connection = await world.logIn(world.sshd);
      const channel = await connection.open(exec('sleep 3'));
      let taken = 0;
      const fill = () => {
        while (channel.input.write(Buffer.alloc(64 * 1024))) taken += 64 * 1024;
      };
      channel.input.on('drain', fill);
      fill();
      const kept = await settled(() => taken);
      assert.ok(kept < 4 * MEBIBYTE, `${kept} bytes`);
    });
  });

  describe('tells of the end', () => {
    it('of a channel that it closes', async () => {
      const connection = await world.logIn(world.sshd);
      const channel = await connection.open(exec('sleep 3'));
      channel.close();
      channel.close();
      assert.equal(await channel.exit, undefined);
      channel.resize(PTY);
      channel.signal('HUP');
      assert.equal((await run(connection, 'echo still')).stdout, 'still\n');
    });

    it('of the connection before those of its channels', async () => {
      const connection = await world.logIn(world.sshd);
      const channel = await connection.open(exec('sleep 3'));
      const order: string[] = [];
      const ends = [
        channel.exit.then(() => order.push('channel')),
        connection.closed.then(() => order.push('connection')),
      ];
      connection.end();
      await Promise.all(ends);
      assert.deepEqual(order, ['connection', 'channel']);
    });

    it('of every channel when the target is gone', async () => {
      const other = await world.startWith([]);
      const connection = await world.logIn(other);
      const channel = await connection.open(exec('sleep 3'));
      await other[Symbol.asyncDispose]();
      connection.destroy();
      assert.equal(await channel.exit, undefined);
      await connection.closed;
      assert.equal(await textOf(channel.output), '');
    });

    it('of output that nobody has read yet only after it was read', async () => {
      const connection = await world.logIn(world.sshd);
      const channel = await connection.open(exec('head -c 1000000 /dev/zero'));
      await channel.exit;
      connection.end();
      await connection.closed;
      assert.equal((await textOf(channel.output)).length, 1_000_000);
    });
  });
});

async function take(stream: Readable, least: number): Promise<Buffer[]> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await eventually(() => Buffer.concat(chunks).length >= least);
  return [Buffer.concat(chunks)];
}
