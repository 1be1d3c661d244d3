import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { connect } from 'node:net';
import { encodePublicKey } from '../../../../identity/ssh/public-key.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { until } from '../../../../test/fakes/gateway-under-test.ts';
import type { SshAuthorities } from '../../../../test/fakes/ssh-authorities.ts';
import {
  handMadeSshCertificate,
  optionValue,
} from '../../../../test/fixtures/hand-made-ssh-certificate.ts';
import { DIRECT, type SshTestClient, WEB } from '../../../../test/fixtures/ssh-client.ts';
import { SshGateway } from '../../../../test/fixtures/ssh-gateway.ts';
import { requireSshd } from '../../../../test/fixtures/ssh-target.ts';
import { RawPeer, serviceRequest } from '../../../../test/fixtures/ssh2-raw.ts';
import { ClientLogin } from './ssh2-client-login.ts';
import { MESSAGE, message } from './ssh2-messages.ts';

type Make = (key: KeyObject, ssh: SshAuthorities) => Uint8Array;

const MINUTE_MS = 60_000;
const newKey = () => generateKeyPairSync('ed25519').privateKey;

describe('sshBackend, to a client that proves itself badly', function () {
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

  const denials = () => gateway.events('connection.refused', 'session.denied');
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

  async function logIn(make: Make, by?: KeyObject): Promise<void> {
    const key = newKey();
    const certificate = make(key, gateway.server.ssh);
    const connection = await gateway.connect({ key: by ?? key, certificate });
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
    await assert.rejects(logIn((key, ssh) => ssh.issueUser(WEB, key), newKey()));
    await until(() => denials().length > events);
    assert.match(denials().at(-1) ?? '', /^connection\.refused the signature of the login/);
  });

  it('a proof of another connection is refused', async () => {
    const privateKey = newKey();
    const certificate = gateway.server.ssh.issueUser(WEB, privateKey);
    const stranger = () => RawPeer.connect(connect(gateway.port, '127.0.0.1'));
    const [one, other] = [await stranger(), await stranger()];
    /** Sends to `one` a login that is signed for the connection of `by`. */
    const logIn = async (by: RawPeer) => {
      const transport = {
        send: (head: Uint8Array, body?: Uint8Array) => one.transport.send(head, body),
        sessionId: by.transport.sessionId,
        disconnect: () => assert.fail(),
      };
      const login = new ClientLogin({ transport, user: 'deploy+web-1', privateKey, certificate });
      login.receive(message(MESSAGE.SERVICE_ACCEPT).finish());
      return (await one.numbers(1))[0];
    };
    one.send(serviceRequest());
    await one.next(MESSAGE.SERVICE_ACCEPT);
    assert.equal(await logIn(other), MESSAGE.USERAUTH_FAILURE);
    assert.equal(gateway.refused.at(-1), 'the signature of the login does not verify');
    assert.equal(await logIn(one), MESSAGE.USERAUTH_SUCCESS);
    for (const { transport } of [one, other]) transport.destroy(new Fault('UNAVAILABLE', 'done'));
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
