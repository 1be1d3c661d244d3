import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Fault } from '../../../../runtime/fault.ts';
import { FakeClock } from '../../../../test/fakes/fake-clock.ts';
import { until } from '../../../../test/fakes/gateway-under-test.ts';
import { DIRECT, type SshTestClient, WEB } from '../../../../test/fixtures/ssh-client.ts';
import { recorded, SshGateway } from '../../../../test/fixtures/ssh-gateway.ts';
import { requireSshd } from '../../../../test/fixtures/ssh-target.ts';

const OTHER = 'spiffe://example.org/other';

describe('sshBackend, what it refuses', function () {
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

  const usual = () => [gateway.backend('web-1')];
  const denials = () => gateway.events('connection.refused', 'session.denied');

  describe('who has no right to what it wants', () => {
    it('is told so, once it has proved itself, and may try its next identity', async () => {
      const other = await gateway.client({ identity: OTHER });
      const { status, stderr } = await other.ssh([...DIRECT, 'true']);
      assert.equal(status, 255);
      assert.match(stderr, /^writ: spiffe:\/\/example\.org\/other holds no grant on "web-1"/m);
      await until(() => denials().some((event) => event.startsWith(`session.denied ${OTHER}`)));
      const both = await gateway.client({
        settings: [
          `IdentityFile ${other.directory}/id`,
          `CertificateFile ${other.directory}/id-cert.pub`,
        ],
      });
      assert.equal((await both.ssh([...DIRECT, 'true'])).status, 0);
    });

    it('gets no way through the gateway either', async () => {
      const other = await gateway.client({ identity: OTHER });
      const { status, stderr } = await other.ssh(['web-1', 'true']);
      assert.equal(status, 255);
      assert.match(stderr, /writ: .* holds no grant on any SSH backend/);
    });

    for (const [what, user, message] of [
      ['a login that is not granted', 'root+web-1', /no login "root" on "web-1", but deploy/],
      ['a backend that is not there', 'deploy+web-9', /holds no grant on "web-9"/],
      ['a grant that is not there', 'deploy+web-1+none', /hold no grant "none" .*but ops/],
      ['a user name of no form', 'deploy+', /not of the form login\+backend/],
      ['a login of no form', 'Deploy+web-1', /not of the form login\+backend/],
    ] as const) {
      it(`is told about ${what}`, async () => {
        const opened = gateway.server.opened.length;
        const { status, stderr } = await client.ssh(['-o', `User=${user}`, 'gw', 'true']);
        assert.equal(status, 255);
        assert.match(stderr, message);
        assert.equal(gateway.server.opened.length, opened);
      });
    }

    it('S13 is told to name a grant where several would do', async () => {
      await gateway.declare(usual(), [gateway.grant('ops'), gateway.grant('read')]);
      for (const [args, count] of [
        [DIRECT, 1],
        [['web-1'], 2],
      ] as const) {
        const { status, stderr } = await client.ssh([...args, 'true']);
        assert.equal(status, 255, `${count}`);
        assert.match(stderr, /several grants on "web-1": name one of ops, read/);
      }
      await gateway.declare(usual(), [gateway.grant('ops')]);
    });

    it('gets no session on the way, and no way to anything but its backends', async () => {
      const shell = await client.ssh(['gw', 'true']);
      assert.equal(shell.status, 255);
      assert.match(shell.stderr, /name a login and a backend as the user/);
      for (const to of ['127.0.0.1:22', 'web-1:80', 'web-9:22', `127.0.0.1:${gateway.port}`]) {
        const { status, stderr } = await client.ssh(['-W', to, 'gw']);
        assert.equal(status, 255);
        assert.match(stderr, /holds no grant on/, to);
        await until(() => denials().some((event) => event.includes(`"${to.split(':')[0]}"`)));
      }
    });

    it('is refused when the server refuses', async () => {
      const { server } = gateway;
      const usualAnswer = server.answer;
      server.answer = async () => {
        throw new Fault('PERMISSION_DENIED', 'locked by uid:0');
      };
      const { status, stderr } = await client.ssh([...DIRECT, 'true']);
      server.answer = usualAnswer;
      assert.equal(status, 255);
      assert.match(stderr, /writ: locked by uid:0/);
    });
  });

  describe('a channel', () => {
    const set = (rights: Parameters<SshGateway['grant']>[1]) =>
      gateway.declare(usual(), [gateway.grant('ops', rights)]);
    after(() => gateway.declare(usual(), [gateway.grant('ops')]));
    const denied = async () => {
      const { channelOpened } = recorded(await gateway.record());
      return channelOpened.map(({ kind, deniedBy }) => `${kind} ${deniedBy}`);
    };

    it('of another kind than granted is refused in one line, recorded and audited', async () => {
      await set({ rights: { commands: ['id -un', 'true'] } });
      const shell = await client.ssh(['-T', 'web-1'], 'id\n');
      assert.deepEqual(shell, {
        status: 126,
        stdout: '',
        stderr: 'writ: the grant ops gives no shell\n',
      });
      assert.deepEqual(await denied(), ['shell shell-not-granted']);
      const other = await client.ssh(['web-1', 'id']);
      assert.deepEqual(
        [other.status, other.stderr],
        [126, 'writ: the grant ops does not give this command\n'],
      );
      assert.deepEqual(await denied(), ['exec command-not-granted']);
      const sftp = await client.run('sftp', ['-b', '-', 'web-1'], 'ls\n');
      assert.notEqual(sftp.status, 0);
      assert.match(sftp.stderr, /writ: the grant ops gives no file transfer/);
      assert.deepEqual(await denied(), ['sftp sftp-not-granted']);
      const good = await client.ssh(['web-1', 'id -un']);
      assert.equal(good.stdout, `${gateway.target.account}\n`);
      await until(() => gateway.events('session.channel.denied').length === 3);
      assert.deepEqual(gateway.events('session.channel.denied'), [
        'session.channel.denied shell-not-granted',
        'session.channel.denied command-not-granted',
        'session.channel.denied sftp-not-granted',
      ]);
    });

    it('has no terminal without the right to a shell', async () => {
      await set({ rights: { exec: true } });
      const { status, stderr } = await client.ssh(['-tt', 'web-1', 'tty']);
      assert.match(stderr, /PTY allocation request failed/);
      assert.equal(status, 255);
      const { stdout } = await client.ssh(['web-1', 'tty']);
      assert.equal(stdout, 'not a tty\n');
    });

    it('of a grant for transfers alone moves files, and nothing runs', async () => {
      await set({ rights: { sftp: true } });
      const path = join(gateway.target.directory, 'only');
      const up = await client.run('scp', ['config', `web-1:${path}`]);
      assert.deepEqual([up.status, up.stderr, existsSync(path)], [0, '', true]);
      const old = await client.run('scp', ['-O', 'config', `web-1:${path}-old`]);
      assert.notEqual(old.status, 0);
      assert.match(old.stderr, /writ: .*use sftp, or scp without -O/);
      const run = await client.ssh(['web-1', 'id']);
      assert.equal(run.status, 126);
      assert.equal(existsSync(`${path}-old`), false);
    });

    it('of a subsystem that is not sftp is refused', async () => {
      await set({});
      const { status, stderr } = await client.ssh(['-s', 'web-1', 'netconf']);
      assert.equal(status, 126);
      assert.match(stderr, /writ: the gateway knows no such subsystem/);
      assert.deepEqual(await denied(), ['subsystem subsystem-unknown']);
    });

    it('forwards no agent and no display', async () => {
      const { stdout } = await client.ssh([
        ...['-o', 'ForwardAgent=/tmp/none', '-o', 'ForwardX11=yes'],
        ...[...DIRECT, 'echo "[$SSH_AUTH_SOCK][$DISPLAY]"'],
      ]);
      assert.equal(stdout, '[][]\n');
    });

    for (const [what, args] of [
      ['port of the target', ['-o', 'ExitOnForwardFailure=yes', '-R', '0:127.0.0.1:1']],
      ['socket of the target', ['-o', 'ExitOnForwardFailure=yes', '-R', '/tmp/w:127.0.0.1:1']],
      ['connection from the target', ['-W', '127.0.0.1:22']],
    ] as const) {
      it(`forwards no ${what}`, async () => {
        const { status, stderr } = await client.ssh([...args, ...DIRECT]);
        assert.equal(status, 255);
        assert.match(stderr, /forward|open failed/i);
      });
    }

    it('of a command that the target would read otherwise is refused, recorded and audited', async () => {
      await set({});
      const { key } = client;
      const certificate = gateway.server.ssh.issueUser(WEB, key);
      const connection = await gateway.connect({ key, certificate });
      const before = gateway.events('session.channel.denied').length;
      const channel = await connection.open({ kind: 'exec', command: 'id\0', env: new Map() });
      assert.deepEqual(await channel.exit, { code: 126 });
      connection.end();
      assert.deepEqual(await denied(), ['exec command-unreadable']);
      await until(() => gateway.events('session.channel.denied').length > before);
    });

    it('to go on from the target is recorded and audited', async () => {
      const before = gateway.events('session.channel.denied').length;
      await client.ssh(['-W', 'db-1:5432', ...DIRECT]);
      const { channelOpened } = recorded(await gateway.record());
      assert.deepEqual(
        channelOpened.map(({ kind, command, deniedBy }) => [kind, command, deniedBy]),
        [['forward', '"db-1", port 5432', 'forwarding-never']],
      );
      await until(() => gateway.events('session.channel.denied').length > before);
      const [event] = gateway.events('session.channel.denied').slice(before);
      assert.equal(event, 'session.channel.denied forwarding-never');
    });
  });

  it('shows itself to nobody without a host certificate, and to all once it has one', async () => {
    await using other = await SshGateway.start();
    const one = await other.client();
    const { signHost } = other.server;
    other.server.signHost = async () => {
      throw new Fault('STORE_UNAVAILABLE', 'disk full');
    };
    const { status, stderr } = await one.ssh([...DIRECT, 'true']);
    assert.deepEqual([status, other.refused], [255, ['the gateway has no host certificate']]);
    assert.doesNotMatch(stderr, /host key|HOST IDENTIFICATION/i, 'nobody is alarmed');
    other.server.signHost = async (request) => {
      if (request.backend !== '') throw new Fault('STORE_UNAVAILABLE', 'disk full');
      return await signHost(request);
    };
    assert.equal((await one.ssh([...DIRECT, 'true'])).status, 0);
    const jumped = await one.ssh(['web-1', 'true']);
    assert.equal(jumped.status, 255);
    assert.match(jumped.stderr, /the gateway has no host certificate: try again/);
    other.server.signHost = signHost;
    assert.equal((await one.ssh(['web-1', 'true'])).status, 0);
  });

  it('lets nobody wait inside of another connection without a login', async () => {
    const clock = new FakeClock(new Date());
    await using other = await SshGateway.start({ clock });
    const one = await other.client();
    const child = one.start(['-W', 'web-1:22', 'gw']);
    await once(child.stdout ?? assert.fail(), 'data');
    await clock.advance(19_500);
    assert.deepEqual([child.exitCode, other.refused], [null, []]);
    const exited = once(child, 'exit');
    await clock.advance(1_000);
    await until(() => other.refused.length === 1);
    assert.deepEqual(other.refused, ['no login within 20 s']);
    child.stdin?.end();
    await clock.advance(3_000);
    await exited;
  });
});
