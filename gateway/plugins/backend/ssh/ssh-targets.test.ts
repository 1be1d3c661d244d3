import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Server } from 'node:net';
import { encodePublicKey } from '../../../../identity/ssh/public-key.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { DIRECT, type SshTestClient, WEB } from '../../../../test/fixtures/ssh-client.ts';
import { recorded, SshGateway } from '../../../../test/fixtures/ssh-gateway.ts';
import { requireSshd } from '../../../../test/fixtures/ssh-target.ts';

const newKey = () => generateKeyPairSync('ed25519').privateKey;

describe('sshBackend, a target', function () {
  this.timeout(60_000);
  let gateway: SshGateway;
  let client: SshTestClient;
  let silent: Server;
  before(async function () {
    requireSshd(this);
    gateway = await SshGateway.start();
    client = await gateway.client();
    silent = createServer((socket) => socket.destroy());
    await once(silent.listen(0, '127.0.0.1'), 'listening');
  });
  after(async () => {
    silent?.close();
    await gateway?.[Symbol.asyncDispose]();
  });

  const usual = () => [gateway.backend('web-1')];
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

  it('that is crowded, as sshd is above its MaxStartups, is asked again', async () => {
    let asked = 0;
    const crowded = createServer((socket) => {
      asked += 1;
      socket.on('error', () => undefined);
      if (asked <= 2) {
        socket.end('Exceeded MaxStartups\r\n');
        return;
      }
      const onward = connect(gateway.target.port, '127.0.0.1');
      onward.on('error', () => undefined);
      socket.pipe(onward).pipe(socket);
    });
    await once(crowded.listen(0, '127.0.0.1'), 'listening');
    const { status, stderr } = await outcome({ port: portOf(crowded) });
    crowded.close();
    assert.equal(status, 0, stderr);
    assert.equal(asked, 3);
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
