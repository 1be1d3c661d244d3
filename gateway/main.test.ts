import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseTrustDomain, SpiffeId } from '../identity/spiffe-id.ts';
import { SvidServer } from '../identity/tls.ts';
import type { X509Svid } from '../identity/x509-svid.ts';
import { SpiffeWorkloadAPI } from '../proto/gen/spiffe/workload/workload_pb.ts';
import { systemClock } from '../runtime/clock.ts';
import { Closers } from '../runtime/closers.ts';
import type { HostPort } from '../runtime/config.ts';
import { RpcServer } from '../runtime/grpc-server.ts';
import { createLogger } from '../runtime/log.ts';
import { Watched } from '../runtime/watched.ts';
import { FakeAuthority } from '../test/fakes/fake-authority.ts';
import { FakeGatewayServer } from '../test/fakes/fake-gateway-server.ts';
import { until } from '../test/fakes/gateway-under-test.ts';
import type { GatewayConfig } from './config.ts';
import { GATEWAY_VERSION, type GatewayAddresses, runGateway } from './main.ts';

const log = createLogger({ process: 'gateway', level: process.env.TEST_LOG ?? 'silent' });
const GATEWAY = SpiffeId.parse('spiffe://example.org/writ/gateway/gw-1');

describe('runGateway', () => {
  let closers: Closers;
  let directory: string;
  let authority: FakeAuthority;
  let server: FakeGatewayServer;
  let serverAt: HostPort;
  let svid: Watched<X509Svid>;
  /** Serials that clients of the server's port came with. */
  let serials: (string | undefined)[];

  beforeEach(async () => {
    closers = new Closers();
    serials = [];
    directory = await mkdtemp(join(tmpdir(), 'writ-gateway-'));
    closers.defer(() => rm(directory, { recursive: true }));
    authority = await FakeAuthority.create(parseTrustDomain('example.org'));
    svid = new Watched(await authority.issue(GATEWAY));
    await startServer();
    await startWorkloadApi();
  });
  afterEach(() => closers[Symbol.asyncDispose]());

  async function startServer(id = 'spiffe://example.org/spire/server'): Promise<void> {
    server = await FakeGatewayServer.start(
      join(directory, `${id.split('/').at(-1)}.sock`),
      systemClock,
    );
    const started = server;
    closers.defer(() => started[Symbol.asyncDispose]());
    const port = new SvidServer({
      svid: new Watched(await authority.issue(SpiffeId.parse(id))),
      bundles: authority.bundle,
      client: 'optional',
      alpn: ['h2'],
      clock: systemClock,
      onConnection: ({ socket, peer }) => {
        serials.push(peer?.serial);
        server.inject(socket);
      },
      onRefused: () => {},
    });
    closers.defer(() => port[Symbol.asyncDispose]());
    serverAt = await port.listen('127.0.0.1', 0);
  }

  async function startWorkloadApi(): Promise<void> {
    const agent = new RpcServer<string, string>({ guard: () => 'workload', log });
    agent.add(SpiffeWorkloadAPI, {
      async *fetchX509SVID(_, { signal }) {
        for await (const { id, chain, privateKey } of svid.values(signal)) {
          yield {
            svids: [
              {
                spiffeId: String(id),
                x509Svid: Buffer.concat(chain),
                x509SvidKey: privateKey.export({ type: 'pkcs8', format: 'der' }),
                bundle: authority.bundle.value.x509Authorities[0]?.der ?? new Uint8Array(),
              },
            ],
          };
        }
      },
    });
    const listener = net.createServer((socket) => agent.inject(socket, 'workload'));
    await once(listener.listen(join(directory, 'agent.sock')), 'listening');
    closers.defer(async () => {
      listener.close();
      await agent[Symbol.asyncDispose]();
    });
  }

  const configOf = (overrides: Partial<GatewayConfig> = {}): GatewayConfig => ({
    trust_domain: parseTrustDomain('example.org'),
    name: 'gw-1',
    state_dir: join(directory, 'state'),
    server: serverAt,
    workload_api: join(directory, 'agent.sock'),
    listen: { postgres: { host: '127.0.0.1', port: 0 } },
    health: { host: '127.0.0.1', port: 0 },
    log: { level: 'info' },
    limits: { sessions: 10, sessions_per_identity: 10 },
    ...overrides,
  });

  async function start(config = configOf()) {
    const stop = new AbortController();
    const { promise, onReady } = readiness();
    const ended = runGateway(config, { signal: stop.signal, log, onReady });
    closers.defer(async () => {
      stop.abort();
      await ended;
    });
    const at = await Promise.race([promise, ended.then(() => assert.fail('it ended'))]);
    return { at, stop, ended };
  }

  function readiness() {
    let onReady: (at: GatewayAddresses) => void = () => {};
    const promise = new Promise<GatewayAddresses>((resolve) => {
      onReady = resolve;
    });
    return { promise, onReady };
  }

  const ask = async (at: GatewayAddresses, path: string) =>
    (await (await fetch(`http://${at.health}${path}`)).text()).trim();

  async function untilReady(at: GatewayAddresses): Promise<void> {
    for (let look = 0; look < 200; look += 1) {
      if ((await ask(at, '/ready')) === 'ready') return;
      await sleep(20);
    }
    assert.fail(await ask(at, '/ready'));
  }

  it('is ready with its SVID, a snapshot and a heartbeat, and stops when told', async () => {
    const { at, stop, ended } = await start();
    await untilReady(at);
    assert.deepEqual(serials, [svid.value.serial]);
    assert.equal((await stat(join(directory, 'state'))).mode & 0o777, 0o700);
    assert.match(await ask(at, '/metrics'), /^writ_gateway_server_streams_total 1$/m);
    stop.abort();
    await ended;
    const { port = 0 } = at.listeners.get('postgres') ?? {};
    const [error] = await once(net.connect(port, '127.0.0.1'), 'error');
    assert.equal(error.code, 'ECONNREFUSED');
  });

  it('goes over to a new channel when its SVID rotates', async () => {
    const { at } = await start();
    await untilReady(at);
    svid.set(await authority.issue(GATEWAY));
    await until(() => server.hellos.length === 2);
    assert.equal(serials.at(-1), svid.value.serial);
    await untilReady(at);
  });

  it('S1: follows no server but the one of its trust domain', async () => {
    await startServer('spiffe://example.org/web');
    const { at } = await start();
    await sleep(300);
    assert.equal(await ask(at, '/ready'), 'no snapshot from the server yet');
    assert.equal(server.hellos.length, 0);
  });

  it('audits a refused connection', async () => {
    const { at } = await start();
    await untilReady(at);
    const { port = 0 } = at.listeners.get('postgres') ?? {};
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.end('GET / HTTP/1.1\r\n\r\n');
    await until(() => server.events.length === 1);
    const [event] = server.events;
    assert.deepEqual(
      [event?.type, event?.actor?.address, event?.attributes.port],
      ['connection.refused', '127.0.0.1', String(port)],
    );
  });

  it('speaks SSH on a port of its own, and audits who leaves it without a login', async () => {
    const any = { host: '127.0.0.1', port: 0 };
    const { at } = await start(configOf({ listen: { postgres: any, ssh: any } }));
    await untilReady(at);
    assert.deepEqual([...at.listeners.keys()], ['postgres', 'ssh']);
    const { port = 0 } = at.listeners.get('ssh') ?? {};
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', () => {});
    const [banner] = await once(socket, 'data');
    assert.match(String(banner), /^SSH-2\.0-/);
    socket.destroy();
    await until(() => server.events.length === 1);
    const [event] = server.events;
    assert.deepEqual(
      [event?.type, event?.reason, event?.attributes.port],
      ['connection.refused', 'closed before the login ended', String(port)],
    );
  });

  it('tells its server the ports that are configured', async () => {
    const free = net.createServer();
    await once(free.listen(0, '127.0.0.1'), 'listening');
    const { port } = free.address() as net.AddressInfo;
    await new Promise((resolve) => free.close(resolve));
    const ssh = { host: '127.0.0.1', port };
    const postgres = { host: '127.0.0.1', port: 0 };
    const { at } = await start(configOf({ listen: { postgres, ssh } }));
    await untilReady(at);
    assert.deepEqual(server.hellos[0]?.ports, { ssh: port });
  });

  it('does not start on a port that is taken, and leaves nothing open', async () => {
    const taken = net.createServer();
    await once(taken.listen(0, '127.0.0.1'), 'listening');
    closers.defer(() => {
      taken.close();
    });
    const { port } = taken.address() as net.AddressInfo;
    const listen = { postgres: { host: '127.0.0.1', port } };
    const signal = new AbortController().signal;
    await assert.rejects(runGateway(configOf({ listen }), { signal, log }), {
      code: 'STATE_UNUSABLE',
    });
  });

  it('ends without a word when it is stopped before it has an SVID', async () => {
    const stop = new AbortController();
    const ended = runGateway(configOf({ workload_api: join(directory, 'none.sock') }), {
      signal: stop.signal,
      log,
    });
    await sleep(50);
    stop.abort();
    await ended;
  });

  it('tells the version of the package', async () => {
    const { version } = JSON.parse(await readFile('package.json', 'utf8'));
    assert.equal(GATEWAY_VERSION, version);
  });
});
