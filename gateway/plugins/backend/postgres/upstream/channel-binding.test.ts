import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls, TLSSocket } from 'node:tls';
import { create } from '@bufbuild/protobuf';
import {
  BackendTlsSchema,
  ChannelBinding,
} from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../../../../../test/fixtures/each-postgres.ts';
import { startPostgres, type TestPostgres } from '../../../../../test/fixtures/postgres.ts';
import {
  type IssuedCertificate,
  type SignatureHash,
  type TlsAuthority,
  tlsAuthority,
} from '../../../../../test/fixtures/tls-authority.ts';
import { sslRequest } from '../wire/frontend-messages.ts';
import { readExactly } from '../wire/read-exactly.ts';
import { serverEndPoint } from './channel-binding.ts';
import { logIn } from './login.ts';

const PASSWORD = 'a password for one login';
const PLUS = 'SCRAM-SHA-256-PLUS\0';

function der({ certificate }: IssuedCertificate): Buffer {
  return Buffer.from(new X509Certificate(certificate).raw);
}

describe('serverEndPoint', () => {
  const cases: ['ecdsa' | 'rsa', SignatureHash, string][] = [
    ['ecdsa', 'SHA-256', 'sha256'],
    ['ecdsa', 'SHA-384', 'sha384'],
    ['ecdsa', 'SHA-512', 'sha512'],
    ['ecdsa', 'SHA-1', 'sha256'],
  ];
  for (const [algorithm, hash, expected] of cases) {
    it(`is the ${expected} of a certificate that is signed with ${algorithm} and ${hash}`, async () => {
      const authority = await tlsAuthority(algorithm);
      const certificate = der(await authority.issue('localhost', { hash }));
      const digest = createHash(expected).update(certificate).digest();
      assert.deepEqual(serverEndPoint(certificate), digest);
    });
  }

  it('is the sha256 of one that is signed with RSA and SHA-256', async () => {
    const certificate = der(await (await tlsAuthority('rsa')).issue('localhost'));
    const digest = createHash('sha256').update(certificate).digest();
    assert.deepEqual(serverEndPoint(certificate), digest);
  });

  it('is none where the signature names no hash, nor of what is no certificate', async () => {
    const certificate = der(await (await tlsAuthority('ed25519')).issue('localhost'));
    assert.equal(serverEndPoint(certificate), undefined);
    for (const odd of [Buffer.alloc(0), Buffer.from('3003020101', 'hex'), Buffer.alloc(70_000)]) {
      assert.equal(serverEndPoint(odd), undefined);
    }
  });
});

onEachPostgres('a login that is bound to its TLS connection', (_, version) => {
  let authority: TlsAuthority;
  let folder: string;
  let caFile: string;
  before(async () => {
    authority = await tlsAuthority();
    folder = await mkdtemp(join(tmpdir(), 'writ-test-binding-'));
    caFile = join(folder, 'ca.pem');
    await writeFile(caFile, authority.ca);
  });
  after(() => rm(folder, { recursive: true, force: true }));

  async function serverWith(
    certificate: IssuedCertificate,
    ca = authority.ca,
  ): Promise<TestPostgres> {
    const server = await startPostgres({ version, tls: { ...certificate, ca } });
    await server.exec(`create role writ_test login password '${PASSWORD}'`);
    return server;
  }

  const logInAt = (
    port: number,
    channelBinding: ChannelBinding = ChannelBinding.REQUIRE,
    ca = caFile,
  ) =>
    logIn({
      address: {
        host: '127.0.0.1',
        port,
        tls: create(BackendTlsSchema, { caFile: ca, serverName: 'localhost', channelBinding }),
      },
      ...{ database: 'postgres', role: 'writ_test', password: PASSWORD },
      settings: new Map(),
      signal: AbortSignal.timeout(20_000),
    });

  const refused = (pattern: RegExp) => (error: Error) => {
    assert.match(String(error.cause), pattern);
    return true;
  };

  for (const hash of ['SHA-256', 'SHA-384'] as const) {
    it(`is taken by the server whose certificate is signed with ${hash}`, async () => {
      const certificate = await authority.issue('localhost', { hash, isServer: true });
      await using server = await serverWith(certificate);
      const { socket } = await logInAt(server.port);
      socket.destroy();
    });
  }

  it('fails through somebody in between, with a certificate of the same name and authority', async () => {
    const certificate = () => authority.issue('localhost', { isServer: true });
    await using server = await serverWith(await certificate());
    const stolen = { certificate: await certificate(), caFile: authority.ca };
    await using between = await inBetween(server.port, stolen);
    for (const binding of [ChannelBinding.UNSPECIFIED, ChannelBinding.REQUIRE]) {
      await assert.rejects(logInAt(between.port, binding), refused(/channel binding/));
    }
    // The server misses it if its offer is left away; so does who requires it.
    await using hiding = await inBetween(server.port, { ...stolen, hidesOffer: true });
    await assert.rejects(
      logInAt(hiding.port, ChannelBinding.UNSPECIFIED),
      refused(/channel binding/),
    );
    await assert.rejects(
      logInAt(hiding.port),
      refused(/offers no channel binding, and its settings require it/),
    );
  });

  it('is done without where the certificate gives nothing to bind to, unless it is required', async () => {
    const other = await tlsAuthority('ed25519');
    const ca = join(folder, 'ed25519.pem');
    await writeFile(ca, other.ca);
    await using server = await serverWith(
      await other.issue('localhost', { isServer: true }),
      other.ca,
    );
    const { socket } = await logInAt(server.port, ChannelBinding.UNSPECIFIED, ca);
    socket.destroy();
    await assert.rejects(logInAt(server.port, ChannelBinding.REQUIRE, ca), refused(/require it/));
  });
});

interface Between extends AsyncDisposable {
  readonly port: number;
}

/** Ends TLS with a certificate of its own and passes all bytes on over another TLS connection. */
async function inBetween(
  port: number,
  options: { certificate: IssuedCertificate; caFile: string; hidesOffer?: boolean },
): Promise<Between> {
  const sockets = new Set<Socket>();
  const keep = <S extends Socket>(socket: S): S => {
    socket.on('error', () => undefined);
    sockets.add(socket);
    return socket;
  };
  const signal = new AbortController().signal;
  const serve = async (plain: Socket) => {
    const onward = keep(connect({ host: '127.0.0.1', port }));
    onward.write(sslRequest());
    await readExactly(onward, 1, signal);
    await readExactly(plain, 8, signal);
    plain.write('S');
    const { certificate: cert, key } = options.certificate;
    const client = keep(new TLSSocket(plain, { isServer: true, cert, key }));
    const server = keep(
      connectTls({ socket: onward, ca: options.caFile, servername: 'localhost' }),
    );
    client.on('data', (bytes) => server.write(bytes));
    server.on('data', (bytes: Buffer) => {
      // The list of mechanisms, without its first.
      const hidden = options.hidesOffer === true ? bytes.indexOf(PLUS) : -1;
      if (hidden < 0) return client.write(bytes);
      const shorter = Buffer.concat([
        bytes.subarray(0, hidden),
        bytes.subarray(hidden + PLUS.length),
      ]);
      shorter.writeInt32BE(shorter.readInt32BE(1) - PLUS.length, 1);
      return client.write(shorter);
    });
    client.on('close', () => server.destroy());
    server.on('close', () => client.destroy());
  };
  const listening: Server = createServer((plain) => void serve(keep(plain)));
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  const address = listening.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    async [Symbol.asyncDispose]() {
      listening.close();
      for (const socket of sockets) socket.destroy();
      await once(listening, 'close');
    },
  };
}
