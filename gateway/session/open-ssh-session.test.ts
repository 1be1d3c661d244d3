import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { parseSshCertificate, type SshCertificate } from '../../identity/ssh/certificate.ts';
import { encodePublicKey } from '../../identity/ssh/public-key.ts';
import { signSsh } from '../../identity/ssh/signature.ts';
import { SshWriter } from '../../identity/ssh/wire.ts';
import { RecordedFrameSchema } from '../../proto/gen/writ/gateway/v1/recording_pb.ts';
import { readFrames } from '../../runtime/frame-file.ts';
import { until } from '../../test/fakes/gateway-under-test.ts';
import { TcpGateway } from '../../test/fakes/tcp-gateway.ts';
import type { BackendContext, TcpProtocol } from '../plugins/backend/backend.ts';
import type { Session, SessionPeer } from './session-desk.ts';

const WEB = 'spiffe://example.org/web';

function sshGrant(name: string, logins: string[], rights = {}) {
  const value = { logins, ...rights };
  return { name, identity: WEB, backend: 'web-1', rights: { case: 'ssh' as const, value } };
}

const DECLARED = {
  backends: [{ name: 'web-1', type: { case: 'ssh' as const, value: { host: 'h', port: 22 } } }],
  grants: [
    sshGrant('admin', ['deploy'], { shell: true }),
    sshGrant('files', ['up'], { sftp: true }),
  ],
};

/** Proves every client to be the workload, and opens a session for the login that it says. */
function loginLine(proofFor: (login: string) => SessionPeer) {
  const opened: Session[] = [];
  let context: BackendContext | undefined;
  const protocol: TcpProtocol = {
    type: 'line',
    transport: 'tcp',
    start: async (given) => {
      context = given;
    },
    async serve({ socket, address }, desk) {
      const [line] = await once(socket, 'data');
      const login = String(line).trim();
      const peer = proofFor(login);
      try {
        opened.push(
          await desk.open({
            backend: 'web-1',
            grant: '',
            login,
            peer,
            address,
            client: { login: 'x' },
          }),
        );
        socket.write('open\n');
        await once(socket, 'close');
      } catch (error) {
        socket.end(`${error instanceof Error ? error.message : error}\n`);
        await once(socket, 'close');
      }
    },
    [Symbol.asyncDispose]: async () => {},
  };
  const api = () => context?.api() ?? assert.fail('not started');
  return { protocol, opened, api };
}

describe('sessionDesk for SSH', () => {
  const signal = new AbortController().signal;
  const { privateKey } = generateKeyPairSync('ed25519');
  let gateway: TcpGateway;
  let line: ReturnType<typeof loginLine>;
  let certificate: SshCertificate;
  let tamper: (signature: Buffer) => Buffer;

  beforeEach(async () => {
    tamper = (signature) => signature;
    line = loginLine(peerFor);
    gateway = await TcpGateway.start(line.protocol, DECLARED);
    certificate = parseSshCertificate(gateway.server.ssh.issueUser(WEB, privateKey));
  });
  afterEach(() => gateway[Symbol.asyncDispose]());

  function peerFor(login: string): SessionPeer {
    const { blob, algorithm, serial, validBefore } = certificate;
    const signedData = new SshWriter()
      .string(randomBytes(32))
      .u8(50)
      .string(`${login}+web-1`)
      .string('ssh-connection')
      .string('publickey')
      .boolean(true)
      .string(algorithm)
      .string(blob)
      .finish();
    const signature = tamper(signSsh(privateKey, signedData));
    return {
      id: SpiffeId.parse(WEB),
      serial: String(serial),
      notAfter: validBefore,
      proof: { case: 'ssh', certificate: blob, signedData, signature },
    };
  }

  async function say(login: string): Promise<string> {
    const socket = net.connect(gateway.address.port, '127.0.0.1');
    socket.write(`${login}\n`);
    const [answer] = await once(socket, 'data');
    socket.destroy();
    return String(answer).trim();
  }

  async function open(login: string): Promise<Session> {
    assert.equal(await say(login), 'open');
    const session = line.opened.at(-1);
    assert.ok(session);
    return session;
  }

  it('S2: shows the server the login and the proof, and ends with the certificate', async () => {
    const session = await open('deploy');
    const [request] = gateway.server.opened;
    assert.deepEqual([request?.login, request?.grant, request?.clientChain], ['deploy', '', []]);
    assert.deepEqual(Buffer.from(request?.sshProof?.certificate ?? []), certificate.blob);
    assert.equal(session.identity.serial, String(certificate.serial));
    assert.equal(session.expiresAt.getTime(), certificate.validBefore.getTime());
  });

  it('knows the SSH authorities that its server names', () => {
    const { sshAuthorities } = gateway.core.snapshot.value;
    const { user, host } = gateway.server.ssh.keys;
    assert.deepEqual(
      sshAuthorities.user.map((key) => Buffer.from(key)),
      user,
    );
    assert.deepEqual(
      sshAuthorities.host.map((key) => Buffer.from(key)),
      host,
    );
  });

  it('writes the login into the record, and not what the client says in its place', async () => {
    const { id } = await open('deploy');
    await until(() => gateway.server.closed.length === 1);
    const bytes = await readFile(join(gateway.stateDir, 'recordings', id, '0.seg'));
    const frames = [...readFrames(bytes)].map((frame) => fromBinary(RecordedFrameSchema, frame));
    const event = frames[1]?.frame.case === 'event' ? frames[1].frame.value.event : undefined;
    assert.deepEqual(event?.case === 'opened' && event.value.client, { login: 'deploy' });
  });

  it('opens nothing for a login without a grant, and audits the login', async () => {
    assert.equal(await say('root'), 'you have no login "root" on "web-1", but deploy, up');
    await until(() => gateway.server.events.length === 1);
    const [event] = gateway.server.events;
    assert.deepEqual(
      [event?.type, event?.attributes.login, event?.svidSerial],
      ['session.denied', 'root', String(certificate.serial)],
    );
    assert.equal(gateway.server.opened.length, 0);
  });

  it('S2: opens nothing on a proof that the server does not believe', async () => {
    tamper = (signature) => {
      signature[signature.length - 1] = (signature.at(-1) ?? 0) ^ 1;
      return signature;
    };
    assert.equal(await say('deploy'), 'the proof does not verify');
    assert.equal(gateway.server.opened.length, 1);
  });

  it('audits a channel that a rule refused, by its rule', async () => {
    const { recorder } = await open('deploy');
    for (const channel of [1, 2]) {
      const value = { channel, kind: 'sftp', deniedBy: 'sftp-not-granted' };
      recorder.write({ case: 'channelOpened', value });
    }
    await until(() => gateway.events().some((event) => event.startsWith('session.channel.')));
    const denied = gateway.server.events.filter(({ type }) => type === 'session.channel.denied');
    assert.deepEqual(
      denied.map(({ reason, sessionId, grant, attributes }) => [
        ...[reason, sessionId, grant, attributes.count],
      ]),
      [['sftp-not-granted', 's_1', 'admin', '1']],
    );
  });

  it('has keys signed by its server, for a login and as a host', async () => {
    const { id } = await open('deploy');
    const { id: files } = await open('up');
    const publicKey = encodePublicKey(privateKey);
    const sign = async (sessionId: string) => {
      const answer = await line.api().signSshCertificate({ sessionId, publicKey }, { signal });
      return parseSshCertificate(answer.certificate);
    };
    const shell = await sign(id);
    assert.deepEqual([...shell.criticalOptions.keys()], ['source-address']);
    assert.deepEqual([...shell.extensions.keys()], ['permit-pty']);
    assert.deepEqual(shell.principals, ['web-1/deploy']);
    const sftp = await sign(files);
    assert.equal(sftp.criticalOptions.get('force-command'), 'internal-sftp');
    assert.deepEqual([sftp.extensions.size, sftp.principals], [0, ['web-1/up']]);
    await assert.rejects(sign('s_9'), { faultCode: 'NOT_FOUND' });
    const host = await line
      .api()
      .signSshHostCertificate({ publicKey, backend: 'web-1' }, { signal });
    assert.deepEqual(parseSshCertificate(host.certificate).principals, ['web-1']);
  });
});
