import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import { parseTrustDomain, SpiffeId } from '../../identity/spiffe-id.ts';
import { svidClientTls, tlsConnectOptions } from '../../identity/tls.ts';
import type { RevocationStatus } from '../../identity/x509/crl-view.ts';
import type { X509Svid } from '../../identity/x509-svid.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Closers } from '../../runtime/closers.ts';
import { createLogger } from '../../runtime/log.ts';
import { Watched } from '../../runtime/watched.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { until } from '../../test/fakes/gateway-under-test.ts';
import type { ClientConnection, TlsProtocol } from '../plugins/backend/backend.ts';
import { type Listening, listen } from './listen.ts';

describe('listen', () => {
  let closers: Closers;
  let authority: FakeAuthority;
  let listening: Listening;
  let served: string[];
  let ended: number;
  let refusals: string[];
  let status: RevocationStatus;

  beforeEach(async () => {
    closers = new Closers();
    served = [];
    ended = 0;
    refusals = [];
    status = 'good';
    authority = await FakeAuthority.create(parseTrustDomain('example.org'));
    const svid = await authority.issue(SpiffeId.parse('spiffe://example.org/writ/gateway/gw-1'));
    listening = await listen(
      greeter(),
      { host: '127.0.0.1', port: 0 },
      {
        svid: new Watched(svid),
        bundles: authority.bundle,
        revocation: () => status,
        desk: { open: () => assert.fail('nobody asks for a session') },
        clock: systemClock,
        log: createLogger({ process: 'gateway', level: 'silent' }),
        onRefused: ({ reason }) => refusals.push(reason),
      },
    );
    closers.defer(async () => {
      await listening[Symbol.asyncDispose]();
    });
  });
  afterEach(() => closers[Symbol.asyncDispose]());

  /** Says who the client is, and keeps the connection until the client or the gateway ends it. */
  function greeter(): TlsProtocol {
    return {
      type: 'greeter',
      transport: 'tls',
      alpn: [],
      preface: async () => 'tls',
      start: async () => {},
      async serve({ socket, peer }: ClientConnection, _desk, signal) {
        served.push(String(peer.id));
        socket.write(`hello ${peer.id}\n`);
        socket.resume();
        signal.addEventListener('abort', () => socket.end());
        await once(socket, 'close');
        ended += 1;
      },
      [Symbol.asyncDispose]: async () => {},
    };
  }

  function connect(svid?: X509Svid): tls.TLSSocket {
    const options = { bundle: authority.bundle.value, authorize: () => true, clock: systemClock };
    const { host, port } = listening.address;
    const socket = tls.connect({
      ...tlsConnectOptions(svidClientTls({ ...options, svid })),
      host,
      port,
    });
    socket.on('error', () => {});
    closers.defer(() => {
      socket.destroy();
    });
    return socket;
  }

  const issue = (id: string, from = authority) => from.issue(SpiffeId.parse(id));

  it('hands a client to the protocol once it has proved its SPIFFE ID', async () => {
    const socket = connect(await issue('spiffe://example.org/web'));
    const [data] = await once(socket, 'data');
    assert.equal(String(data), 'hello spiffe://example.org/web\n');
  });

  it('G1: refuses who has no SVID, one of another authority or an expired one', async () => {
    const stranger = await FakeAuthority.create(authority.trustDomain);
    const svids = [
      undefined,
      await issue('spiffe://example.org/web', stranger),
      await authority.issue(SpiffeId.parse('spiffe://example.org/web'), { ttlMs: 1 }),
    ];
    for (const svid of svids) {
      const before = refusals.length;
      connect(svid);
      await until(() => refusals.length > before);
    }
    assert.deepEqual(refusals, [
      'no client certificate',
      'no trusted authority issued the chain',
      'certificate expired',
    ]);
    assert.deepEqual(served, []);
  });

  it('refuses whose serial is revoked, and everybody once the list is out of date', async () => {
    const svid = await issue('spiffe://example.org/web');
    for (status of ['revoked', 'outdated'] as const) {
      const before = refusals.length;
      connect(svid);
      await until(() => refusals.length > before);
    }
    assert.deepEqual(refusals, [
      'revoked by its authority',
      'revocation list of its authority is out of date',
    ]);
    assert.deepEqual(served, []);
  });

  it('G1: refuses who does not speak TLS', async () => {
    const { host, port } = listening.address;
    const socket = net.connect(port, host);
    socket.on('error', () => {});
    socket.end('GET / HTTP/1.1\r\n\r\n');
    await once(socket, 'close');
    await until(() => refusals.length === 1);
    assert.deepEqual(served, []);
  });

  it('ends its connections when it is disposed of', async () => {
    const socket = connect(await issue('spiffe://example.org/web'));
    await once(socket, 'data');
    await listening[Symbol.asyncDispose]();
    await until(() => socket.destroyed);
    assert.equal(ended, 1);
  });
});
