import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Fault } from '../../../../runtime/fault.ts';
import { hasProgram, skipWithout } from '../../../../test/fixtures/programs.ts';
import {
  eventually,
  type OpenSshClient,
  Ssh2Server,
  settled,
} from '../../../../test/fixtures/ssh2-server.ts';

const MEBIBYTE = 2 ** 20;

describe("serveSsh's sessions", () => {
  let server: Ssh2Server;
  let client: OpenSshClient;

  before(function () {
    if (!hasProgram('ssh')) skipWithout(this, 'ssh');
  });

  async function set(
    options: Parameters<typeof Ssh2Server.start>[0] = {},
    clientOptions: Parameters<Ssh2Server['client']>[0] = {},
  ): Promise<void> {
    server = await Ssh2Server.start(options);
    client = await server.client(clientOptions);
  }

  afterEach(async () => {
    await client[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });

  describe('runs', () => {
    it('a command whose input ends at once', async () => {
      await set();
      const { status, stdout } = await client.run(['say'], { options: ['-n'] });
      assert.deepEqual([status, stdout], [0, 'to stdout']);
    });

    it('a command, keeping its two outputs apart and its status', async () => {
      await set();
      assert.deepEqual(await client.run(['say']), {
        status: 0,
        stdout: 'to stdout',
        stderr: 'to stderr',
      });
      assert.equal((await client.run(['exit', '42'])).status, 42);
    });

    it('a command that a signal ends', async () => {
      await set();
      const { status, stderr } = await client.run(['die', 'KILL'], { options: ['-v'] });
      assert.equal(status, 255);
      assert.match(stderr, /client_input_channel_req: channel 0 rtype exit-signal/);
    });

    it('a shell on a terminal of the size and kind that was asked for', async () => {
      await set({}, { settings: ['SetEnv LANG=C'] });
      const { status, stdout } = await client.run([], { input: 'hello', options: ['-tt'] });
      assert.deepEqual([status, stdout], [0, 'hello']);
      const [pty, env, start] = server.asked;
      assert.match(pty ?? '', /^pty \S+ \d+x\d+$/);
      assert.deepEqual([env, start], ['env LANG=C', 'shell ']);
    });

    it('nothing that it refuses', async () => {
      await set();
      const { status, stderr } = await client.run(['unheard-of']);
      assert.equal(status, 255);
      assert.match(stderr, /exec request failed on channel 0/);
    });

    it('nothing on a channel that is refused, and says why', async () => {
      await set({ session: () => Promise.reject(new Fault('PERMISSION_DENIED', 'not today')) });
      const { status, stderr } = await client.run(['say']);
      assert.equal(status, 255);
      assert.match(stderr, /channel 0: open failed: administratively prohibited: not today/);
    });

    it('data both ways unchanged while the client renews the keys', async () => {
      await set();
      const sample = randomBytes(8 * MEBIBYTE);
      const { stdout, stderr, status } = await client.run(['cat'], {
        input: sample,
        options: ['-v', '-o', 'RekeyLimit=1M'],
      });
      assert.equal(status, 0);
      assert.ok(sample.equals(Buffer.from(stdout, 'latin1')));
      assert.ok((stderr.match(/SSH2_MSG_NEWKEYS received/g)?.length ?? 0) > 4);
    });

    it('data both ways unchanged while the server renews the keys', async () => {
      const limits = { rekeyBytes: MEBIBYTE, rekeyMs: 3_600_000, pendingBytes: 8 * MEBIBYTE };
      await set({ limits });
      const sample = randomBytes(8 * MEBIBYTE);
      const { stdout, stderr, status } = await client.run(['cat'], {
        input: sample,
        options: ['-v'],
      });
      assert.equal(status, 0);
      assert.ok(sample.equals(Buffer.from(stdout, 'latin1')));
      assert.ok((stderr.match(/SSH2_MSG_NEWKEYS received/g)?.length ?? 0) > 4);
    });

    it('a program whose client is killed amid data, and then others', async () => {
      await set();
      for (const command of ['flood', 'cat']) {
        const child = client.start([command]);
        if (command === 'cat') child.stdin?.write(Buffer.alloc(4 * MEBIBYTE));
        await once(child.stdout ?? child, 'data');
        child.kill('SIGKILL');
      }
      await eventually(() => server.asked.filter((text) => text === 'closed').length === 2);
      assert.equal((await client.run(['exit', '5'])).status, 5);
    });
  });

  describe('bounds', () => {
    it('what a client that does not read can have it keep', async () => {
      await set();
      const child = client.start(['flood']);
      await once(child.stdout ?? child, 'data');
      child.kill('SIGSTOP');
      const kept = await settled(() => server.flooded);
      assert.ok(kept < 24 * MEBIBYTE, `${kept} bytes`);
      child.kill('SIGCONT');
      await eventually(() => server.flooded > kept + 8 * MEBIBYTE);
      child.kill('SIGKILL');
    });

    it('what a program that does not read can have it keep', async () => {
      await set();
      const child = client.start(['hang']);
      let taken = 0;
      const { stdin } = child;
      assert.ok(stdin !== null);
      const fill = () => {
        while (stdin.write(Buffer.alloc(64 * 1024))) taken += 64 * 1024;
      };
      stdin.on('drain', fill);
      fill();
      const kept = await settled(() => taken);
      assert.ok(kept < 12 * MEBIBYTE, `${kept} bytes`);
      child.kill('SIGKILL');
    });
  });
});
