import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { encodePublicKey } from '../../../../identity/ssh/public-key.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { FakeClock } from '../../../../test/fakes/fake-clock.ts';
import { until } from '../../../../test/fakes/gateway-under-test.ts';
import { SshAuthorities } from '../../../../test/fakes/ssh-authorities.ts';
import { connectTarget, hostKeyProblem, type TargetOptions } from './target.ts';

const newKey = () => generateKeyPairSync('ed25519').privateKey;
const MINUTE_MS = 60_000;

describe('connectTarget', () => {
  let clock: FakeClock;
  let ssh: SshAuthorities;
  let silent: Server;
  let sockets: Socket[];
  let end: AbortController;
  let options: TargetOptions;
  beforeEach(async () => {
    clock = new FakeClock();
    ssh = new SshAuthorities(clock);
    sockets = [];
    end = new AbortController();
    silent = createServer((socket) => {
      sockets.push(socket.on('error', () => undefined));
      socket.resume();
    });
    await once(silent.listen(0, '127.0.0.1'), 'listening');
    const address = silent.address();
    assert.ok(address !== null && typeof address === 'object');
    const { port } = address;
    const signSshCertificate = async ({ publicKey }: { publicKey: Uint8Array }) => ({
      certificate: ssh.issueGateway(publicKey, { keyId: 'k', principals: ['web-1/deploy'] }),
    });
    options = {
      ...{ sessionId: 's_1', name: 'web-1', login: 'deploy', clock, signal: end.signal },
      backend: { host: '127.0.0.1', port, hostKeys: [], logins: { deploy: 'account' } },
      api: () => ({ signSshCertificate }),
      hostAuthorities: ssh.keys.host,
    };
  });
  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    silent.close();
    await once(silent, 'close');
  });
  const allClosed = () => until(() => sockets.every((socket) => socket.destroyed));

  it('gives up a target that says nothing after 10 s', async () => {
    const rejected = assert.rejects(connectTarget(options), {
      code: 'BACKEND_FAILED',
      message: 'web-1 does not let the gateway in within 10 s',
    });
    await until(() => sockets.length === 1);
    await clock.advance(10_100);
    await rejected;
    await allClosed();
  });

  it('gives up when the session ends, for its reason', async () => {
    const fault = new Fault('PERMISSION_DENIED', 'locked');
    const rejected = assert.rejects(connectTarget(options), fault);
    await until(() => sockets.length === 1);
    end.abort(fault);
    await rejected;
    await allClosed();
    await assert.rejects(connectTarget(options), fault);
  });

  it('leaves no connection when the server signs nothing', async () => {
    const api = () => ({
      signSshCertificate: async () => {
        throw new Error('no');
      },
    });
    await assert.rejects(connectTarget({ ...options, api }), /no/);
    await allClosed();
  });

  it('takes no certificate for another login', async () => {
    const api = () => ({
      signSshCertificate: async ({ publicKey }: { publicKey: Uint8Array }) => ({
        certificate: ssh.issueGateway(publicKey, { keyId: 'k', principals: ['web-1/root'] }),
      }),
    });
    await assert.rejects(connectTarget({ ...options, api }), /another certificate/);
    await allClosed();
  });

  it('asks for nothing where the backend has lost the login', async () => {
    const backend = { ...options.backend, logins: {} };
    await assert.rejects(connectTarget({ ...options, backend }), { code: 'PERMISSION_DENIED' });
    assert.equal(sockets.length, 0);
  });
});

describe('hostKeyProblem', () => {
  const clock = new FakeClock();
  const ssh = new SshAuthorities(clock);
  const key = encodePublicKey(newKey());
  const options = (hostKeys: Uint8Array[]) => ({
    ...{ sessionId: 's_1', name: 'web-1', login: 'deploy', clock },
    backend: { host: 'h', port: 22, hostKeys, logins: {} },
    hostAuthorities: ssh.keys.host,
  });
  const good = () => ssh.issueHost(['other', 'web-1'], key);

  it('takes a host certificate for the backend where no keys are declared', () => {
    assert.equal(hostKeyProblem(good(), options([])), undefined);
  });

  for (const [what, hostKey] of [
    ['for another host', () => ssh.issueHost(['web-2'], key)],
    ['that is a user’s', () => ssh.issueHost(['web-1'], key, { type: 'user' })],
    ['of another authority', () => ssh.issueHost(['web-1'], key, { authority: newKey() })],
    ['of the gateways’ authority', () => ssh.issueHost(['web-1'], key, { authority: ssh.gateway })],
    ['that has expired', () => ssh.issueHost(['web-1'], key, { validBefore: clock.now() })],
    [
      'that is not valid yet',
      () =>
        ssh.issueHost(['web-1'], key, { validAfter: new Date(clock.now().getTime() + MINUTE_MS) }),
    ],
    [
      'with a critical option',
      () => ssh.issueHost(['web-1'], key, { criticalOptions: { 'force-command': 'x' } }),
    ],
    ['that is a plain key', () => key],
    ['that is nothing', () => new Uint8Array()],
  ] as const) {
    it(`takes no host certificate ${what}`, () => {
      assert.match(
        hostKeyProblem(hostKey(), options([])) ?? '',
        /^web-1 shows no host certificate/,
      );
    });
  }

  it('takes a declared key alone where keys are declared', () => {
    const declared = options([encodePublicKey(newKey()), key]);
    assert.equal(hostKeyProblem(key, declared), undefined);
    for (const other of [encodePublicKey(newKey()), good(), key.subarray(0, -1)]) {
      assert.match(hostKeyProblem(other, declared) ?? '', /not the one that its backend declares/);
    }
  });
});
