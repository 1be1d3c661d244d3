import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { encodePublicKey } from '../../../../identity/ssh/public-key.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { FakeClock } from '../../../../test/fakes/fake-clock.ts';
import { until } from '../../../../test/fakes/gateway-under-test.ts';
import type { SshAuthorities } from '../../../../test/fakes/ssh-authorities.ts';
import {
  handMadeSshCertificate,
  optionValue,
} from '../../../../test/fixtures/hand-made-ssh-certificate.ts';
import {
  recorded,
  SshGateway,
  type SshTestClient,
  WEB,
} from '../../../../test/fixtures/ssh-gateway.ts';
import { requireSshd } from '../../../../test/fixtures/ssh-target.ts';
import { connectSsh } from './ssh2-client.ts';

const DIRECT = ['-l', 'deploy+web-1', 'gw'] as const;
const OTHER = 'spiffe://example.org/other';
const MINUTE_MS = 60_000;
const never = new AbortController().signal;
const newKey = () => generateKeyPairSync('ed25519').privateKey;

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

  describe('a client that proves itself badly', () => {
    type Make = (key: KeyObject, ssh: SshAuthorities) => Uint8Array;
    const bad: [string, Make, RegExp][] = [
      [
        'a certificate of a rogue authority',
        (key, ssh) => ssh.issueUser(WEB, key, { authority: newKey() }),
        /authority not trusted/,
      ],
      [
        'a certificate of the host authority',
        (key, ssh) => ssh.issueUser(WEB, key, { authority: ssh.host }),
        /authority not trusted/,
      ],
      [
        "a gateway's certificate for a target",
        (key, ssh) => ssh.issueGateway(key, { keyId: WEB, principals: ['web-1/deploy'] }),
        /authority not trusted/,
      ],
      [
        'a wrong principal',
        (key, ssh) => ssh.issueUser(WEB, key, { principals: ['deploy'] }),
        /key ID is not its only principal/,
      ],
      [
        'a host certificate',
        (key, ssh) => ssh.issueUser(WEB, key, { type: 'host' }),
        /of a host where one of a user belongs/,
      ],
      [
        'an expired certificate',
        (key, ssh) => ssh.issueUser(WEB, key, { validBefore: new Date(Date.now() - 1000) }),
        /expired/,
      ],
      [
        'a certificate that is not valid yet',
        (key, ssh) => ssh.issueUser(WEB, key, { validAfter: new Date(Date.now() + MINUTE_MS) }),
        /not valid yet/,
      ],
      [
        'an unknown critical option',
        (key, ssh) =>
          handMadeSshCertificate({
            ...{ key, authority: ssh.user },
            criticalOptions: [['writ-unknown@example.org', optionValue('x')]],
          }),
        /critical option/,
      ],
      [
        'another source address',
        (key, ssh) =>
          ssh.issueUser(WEB, key, { criticalOptions: { 'source-address': '192.0.2.1/32' } }),
        /source address/,
      ],
      [
        'no principals',
        (key, ssh) => handMadeSshCertificate({ key, authority: ssh.user, principals: [] }),
        /no principals/,
      ],
      [
        'a tampered certificate',
        (key, ssh) => {
          const certificate = Buffer.from(ssh.issueUser(WEB, key));
          const at = certificate.indexOf(WEB) + WEB.length - 1;
          certificate.write('c', at);
          return certificate;
        },
        /signature of its authority does not verify/,
      ],
      [
        'a certificate that ended in 1970',
        (key, ssh) =>
          handMadeSshCertificate({ key, authority: ssh.user, validAfter: 1n, validBefore: 2n }),
        /expired/,
      ],
      [
        'a certificate for ever',
        (key, ssh) =>
          handMadeSshCertificate({ key, authority: ssh.user, validBefore: 2n ** 64n - 1n }),
        /year 9999/,
      ],
      [
        'a certificate with something behind it',
        (key, ssh) =>
          handMadeSshCertificate({ key, authority: ssh.user, trailing: Buffer.from([0]) }),
        /SSH certificate/,
      ],
      [
        'a reserved identity',
        (key, ssh) => ssh.issueUser('spiffe://example.org/writ/gateway/g', key),
        /not of a workload/,
      ],
      [
        'an identity of another trust domain',
        (key, ssh) => ssh.issueUser('spiffe://other.org/web', key),
        /of another trust domain/,
      ],
      ['a key without a certificate', (key) => encodePublicKey(key), /key without a certificate/],
    ];

    async function logIn(make: Make, user = 'deploy+web-1', by?: KeyObject): Promise<void> {
      const key = newKey();
      const connection = await connectSsh({
        stream: connect(gateway.port, '127.0.0.1'),
        ...{ user, privateKey: by ?? key, certificate: make(key, gateway.server.ssh) },
        verifyHost: () => undefined,
        ...{ hostKeyTypes: 'certificate', signal: never },
      });
      connection.destroy();
      await connection.closed;
    }

    for (const [what, make, reason] of bad) {
      it(`${what} is refused, with one event, and the next client is served`, async () => {
        const [before, opened] = [gateway.refused.length, gateway.server.opened.length];
        await assert.rejects(logIn(make), { code: 'UNAVAILABLE' });
        const { status } = await client.ssh([...DIRECT, 'true']);
        assert.equal(status, 0);
        assert.equal(gateway.server.opened.length, opened + 1, 'only the good one was asked for');
        const [why, ...more] = gateway.refused.slice(before);
        assert.match(why ?? '', reason);
        assert.deepEqual(more, []);
        await until(() => denials().includes(`connection.refused ${why}`));
      });
    }

    it('a certificate of somebody else is refused at the signature', async () => {
      const events = denials().length;
      await assert.rejects(logIn((key, ssh) => ssh.issueUser(WEB, key), 'deploy+web-1', newKey()));
      await until(() => denials().length > events);
      assert.match(denials().at(-1) ?? '', /^connection\.refused the signature of the login/);
    });

    for (const [what, certificate] of [
      ['a rogue authority', (key, ssh) => ssh.issueUser(WEB, key, { authority: newKey() })],
      [
        'an expired certificate',
        (key, ssh) => ssh.issueUser(WEB, key, { validBefore: new Date(Date.now() - 1000) }),
      ],
      ['a wrong principal', (key, ssh) => ssh.issueUser(WEB, key, { principals: ['root'] })],
      ['no certificate', () => undefined],
    ] as [string, (key: KeyObject, ssh: SshAuthorities) => Uint8Array | undefined][]) {
      it(`a real ssh with ${what} is told that it is denied, by ProxyJump too`, async () => {
        const stranger = await gateway.client({ certificate });
        for (const args of [DIRECT, ['web-1']]) {
          const { status, stderr } = await stranger.ssh([...args, 'true']);
          assert.equal(status, 255);
          assert.match(stderr, /Permission denied \(publickey\)/);
          assert.doesNotMatch(stderr, /writ:/, 'who proved nothing learns nothing');
        }
      });
    }
  });

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
  });

  describe('a target', () => {
    let silent: Server;
    before(async () => {
      silent = createServer((socket) => socket.destroy());
      await once(silent.listen(0, '127.0.0.1'), 'listening');
    });
    after(() => silent?.close());
    const portOf = (server: Server) => {
      const address = server.address();
      assert.ok(address !== null && typeof address === 'object');
      return address.port;
    };
    const outcome = async (change: Parameters<SshGateway['backend']>[1], name = 'web-1') => {
      const grant = gateway.grant('ops', { backend: name });
      await gateway.declare([gateway.backend(name, change)], [grant]);
      return await client.ssh(['-l', `deploy+${name}`, 'gw', 'true']);
    };
    const refused = async (change: Parameters<SshGateway['backend']>[1], message: RegExp) => {
      const { status, stderr } = await outcome(change);
      assert.equal(status, 255);
      assert.match(stderr, message);
      const { channelOpened, closed } = recorded(await gateway.record());
      assert.deepEqual(channelOpened, []);
      assert.match(closed[0]?.reason ?? '', message);
    };

    it('that cannot be reached is told in one clear line', async () => {
      await refused({ port: 1 }, /web-1 cannot be reached \(ECONNREFUSED\)/);
    });

    it('that is no SSH server is told too', async () => {
      await refused({ port: portOf(silent) }, /target/);
    });

    it('by ProxyJump just so', async () => {
      await gateway.declare([gateway.backend('web-1', { port: 1 })], [gateway.grant('ops')]);
      const { status, stderr } = await client.ssh(['web-1', 'true']);
      assert.equal(status, 255);
      assert.match(stderr, /web-1 cannot be reached/);
    });

    it('is known by the host key that its backend declares', async () => {
      const good = await outcome({ hostKeys: [encodePublicKey(newKey()), gateway.target.hostKey] });
      assert.equal(good.status, 0);
      await refused(
        { hostKeys: [encodePublicKey(newKey())] },
        /not the one that its backend declares/,
      );
    });

    it('is known by a certificate for its own name alone', async () => {
      const { target, server } = gateway;
      const { port } = target;
      const { status, stderr } = await outcome({ port }, 'web-2');
      assert.equal(status, 255);
      assert.match(stderr, /web-2 shows no host certificate that is good for it .*principal/);
      await using other = await SshGateway.start();
      await refused({ port: other.target.port }, /authority not trusted/);
      assert.equal(other.target.log.includes('Accepted'), false);
      assert.equal(server.opened.length > 0, true);
    });

    it('S2 takes no certificate for another backend', async () => {
      const hostKeys = [gateway.target.hostKey];
      const { status, stderr } = await outcome({ hostKeys }, 'elsewhere');
      assert.equal(status, 255);
      assert.match(stderr, /target refuses the gateway's certificate/);
    });

    it("takes no workload's certificate, so that nobody gets by the gateway", async () => {
      const { target } = gateway;
      const { status } = await client.ssh([
        ...['-o', 'ProxyJump=none', '-o', 'HostName=127.0.0.1', '-p', String(target.port)],
        ...['-l', target.account, 'web-1', 'true'],
      ]);
      assert.equal(status, 255);
    });

    it('is not entered without a certificate of the server', async () => {
      const { server } = gateway;
      await gateway.declare(usual(), [gateway.grant('ops')]);
      const sign = server.sign;
      for (const [fault, message] of [
        [new Fault('PERMISSION_DENIED', 'the grant has ended'), /the grant has ended/],
        [new Fault('STORE_UNAVAILABLE', 'disk full'), /no certificate for the target/],
      ] as const) {
        server.sign = async () => {
          throw fault;
        };
        const { status, stderr } = await client.ssh([...DIRECT, 'true']);
        assert.equal(status, 255);
        assert.match(stderr, message);
        assert.doesNotMatch(stderr, /disk full/);
      }
      server.sign = async (request) => ({
        certificate: server.ssh.issueGateway(request.publicKey, {
          keyId: WEB,
          principals: ['web-2/deploy'],
        }),
      });
      const { stderr } = await client.ssh([...DIRECT, 'true']);
      server.sign = sign;
      assert.match(stderr, /internal error/);
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
