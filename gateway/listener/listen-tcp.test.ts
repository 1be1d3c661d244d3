import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { PassThrough } from 'node:stream';
import { create } from '@bufbuild/protobuf';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { BackendSchema, GrantSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Closers } from '../../runtime/closers.ts';
import { Fault } from '../../runtime/fault.ts';
import { createLogger } from '../../runtime/log.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { until } from '../../test/fakes/gateway-under-test.ts';
import { openWireSession, type WireSession } from '../../test/fixtures/wire-session.ts';
import type { TcpConnection, TcpProtocol } from '../plugins/backend/backend.ts';
import type { SessionDesk, SessionPeer, SessionRequest } from '../session/session-desk.ts';
import type { Listening } from './listen.ts';
import { listenTcp, STRANGERS } from './listen-tcp.ts';

const PEER: SessionPeer = {
  id: SpiffeId.parse('spiffe://example.org/web'),
  serial: '7',
  notAfter: new Date('2027-01-01T00:00:00Z'),
  proof: { case: 'x509', chain: [] },
};
const REQUEST: SessionRequest = {
  ...{ backend: 'web-1', grant: '', login: 'deploy', peer: PEER },
  ...{ address: '192.0.2.7:1', client: {} },
};

describe('listenTcp', () => {
  let closers: Closers;
  let clock: FakeClock;
  let listening: Listening;
  let refusals: string[];
  let denials: string[];
  let served: TcpConnection[];
  let sessions: WireSession[];
  let ended: number;
  /** What the protocol does with a client. */
  let serve: (connection: TcpConnection, desk: SessionDesk, signal: AbortSignal) => Promise<void>;
  let open: SessionDesk['open'];

  beforeEach(async () => {
    closers = new Closers();
    clock = new FakeClock();
    [refusals, denials, served, sessions, ended] = [[], [], [], [], 0];
    serve = untilClosed;
    open = async (request) => {
      const resources = { grant: create(GrantSchema, {}), backend: create(BackendSchema, {}) };
      const wire = openWireSession(request, resources);
      sessions.push(wire);
      return wire.session;
    };
    const protocol: TcpProtocol = {
      type: 'test',
      transport: 'tcp',
      start: async () => {},
      async serve(connection, desk, signal) {
        served.push(connection);
        await serve(connection, desk, signal);
        ended += 1;
      },
      [Symbol.asyncDispose]: async () => {},
    };
    listening = await listenTcp(
      protocol,
      { host: '127.0.0.1', port: 0 },
      {
        desk: { open: (request) => open(request) },
        clock,
        log: createLogger({ process: 'gateway', level: 'silent' }),
        onRefused: ({ address, port, reason }) => {
          assert.deepEqual([address, port], ['127.0.0.1', listening.address.port]);
          refusals.push(reason);
        },
        onDenied: ({ peer }, reason) => denials.push(`${peer.id} ${reason}`),
      },
    );
    closers.defer(async () => {
      await listening[Symbol.asyncDispose]();
    });
  });
  afterEach(() => closers[Symbol.asyncDispose]());

  async function untilClosed({ socket }: TcpConnection): Promise<void> {
    socket.resume();
    if (!socket.closed) await once(socket, 'close');
  }

  function connect(): net.Socket {
    const { host, port } = listening.address;
    const socket = net.connect(port, host);
    socket.on('error', () => {});
    socket.resume();
    closers.defer(() => {
      socket.destroy();
    });
    return socket;
  }

  async function connected(count = 1): Promise<net.Socket[]> {
    const before = served.length;
    const sockets = Array.from({ length: count }, connect);
    await until(() => served.length === before + count);
    return sockets;
  }

  it('hands a stranger to the protocol at once, with its address', async () => {
    const [client] = await connected();
    const local = client?.address() as net.AddressInfo;
    assert.equal(served[0]?.address, `127.0.0.1:${local.port}`);
    assert.equal(served[0]?.ip, '127.0.0.1');
  });

  it('ends who has not logged in within 20 s, and tells of it once', async () => {
    const [client] = await connected();
    await clock.advance(19_950);
    assert.equal(client?.destroyed, false);
    await clock.advance(50);
    await until(() => client?.destroyed === true && ended === 1);
    assert.deepEqual(refusals, ['no login within 20 s']);
  });

  it('leaves who has logged in alone', async () => {
    const [client] = await connected();
    served[0]?.authenticated();
    await clock.advance(25_000);
    assert.equal(client?.destroyed, false);
    client?.destroy();
    await until(() => ended === 1);
    assert.deepEqual(refusals, []);
  });

  it('tells of who leaves without a login', async () => {
    const [client] = await connected();
    client?.destroy();
    await until(() => refusals.length === 1);
    assert.deepEqual(refusals, ['closed before the login ended']);
  });

  it('tells nothing more of whom the protocol has refused or denied, or the desk', async () => {
    open = async () => {
      throw new Fault('PERMISSION_DENIED', 'no grant');
    };
    serve = async (connection, desk) => {
      if (served.length === 1) connection.refused('certificate expired');
      if (served.length === 2) connection.denied(REQUEST, 'no grant');
      if (served.length === 3) await assert.rejects(desk.open(REQUEST), { message: 'no grant' });
    };
    for (const client of [await connected(), await connected(), await connected()].flat()) {
      await until(() => client.destroyed);
    }
    await until(() => ended === 3);
    assert.deepEqual(refusals, ['certificate expired']);
    assert.deepEqual(denials, ['spiffe://example.org/web no grant']);
  });

  it('lets so many strangers in from one address, and others once one of these has logged in or left', async () => {
    const most = STRANGERS.maximumPerAddress;
    const clients = await connected(most);
    const refused = connect();
    await until(() => refused.destroyed);
    assert.deepEqual(refusals, ['too many connections from one address without a login']);
    assert.equal(served.length, most);
    served[0]?.authenticated();
    served[0]?.authenticated();
    await connected();
    const crowded = connect();
    await until(() => crowded.destroyed);
    clients[1]?.destroy();
    await until(() => ended === 1);
    await connected();
    assert.equal(served.length, most + 2);
  });

  it('ends its clients when it is disposed of, and tells of none', async () => {
    const [client] = await connected();
    serve = async ({ socket }, desk, signal) => {
      const session = await desk.open(REQUEST);
      await once(signal, 'abort');
      assert.equal(session.signal.aborted, true);
      socket.destroy();
    };
    await connected();
    const stopping = listening[Symbol.asyncDispose]();
    client?.destroy();
    await stopping;
    assert.deepEqual([ended, refusals], [2, []]);
    assert.deepEqual(
      sessions.map(({ endedBy, disposed }) => [endedBy, disposed]),
      [['the gateway is stopping', true]],
    );
  });

  it('does not start on a port that is taken', async () => {
    const options = { clock, onRefused: () => {}, onDenied: () => {}, desk: { open } };
    const log = createLogger({ process: 'gateway', level: 'silent' });
    const protocol = { transport: 'tcp' } as TcpProtocol;
    await assert.rejects(listenTcp(protocol, listening.address, { ...options, log }), {
      code: 'STATE_UNUSABLE',
      message: /EADDRINUSE/,
    });
  });

  describe('serveWithin', () => {
    const forever = () => new Promise<void>(() => {});

    it('costs the stream when an inner session is held on to, and leaves the connection', async () => {
      const stream = new PassThrough();
      let within: Promise<void> | undefined;
      serve = async (connection) => {
        connection.authenticated();
        within = connection.serveWithin(stream, async (desk) => {
          await desk.open(REQUEST);
          await forever();
        });
        await untilClosed(connection);
      };
      const [client] = await connected();
      await until(() => sessions.length === 1);
      sessions[0]?.terminate(new Fault('PERMISSION_DENIED', 'killed'));
      await clock.advance(700);
      assert.equal(stream.destroyed, false);
      await clock.advance(50);
      assert.deepEqual([stream.destroyed, client?.destroyed], [true, false]);
      await clock.advance(5_000);
      await within;
      assert.deepEqual([sessions[0]?.disposed, client?.destroyed], [true, false]);
    });

    it('ends with the connection', async () => {
      const stream = new PassThrough();
      serve = async (connection) => {
        void connection.serveWithin(stream, async (desk) => {
          await desk.open(REQUEST);
          await once(stream, 'close');
        });
        await untilClosed(connection);
      };
      const [client] = await connected();
      await until(() => sessions.length === 1);
      client?.destroy();
      await until(() => sessions[0]?.disposed === true);
      assert.equal(stream.destroyed, true);
    });

    it('begins nothing on a connection that is over', async () => {
      const [client] = await connected();
      client?.destroy();
      await until(() => ended === 1);
      const stream = new PassThrough();
      await served[0]?.serveWithin(stream, () => assert.fail('it was served'));
      assert.equal(stream.destroyed, true);
    });
  });
});
