import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../test/fakes/gateway-under-test.ts';
import {
  askGateway,
  GatewayWorld,
  gatewayLog,
  untilReady,
} from '../test/fixtures/gateway-world.ts';
import { GATEWAY_VERSION, runGateway } from './main.ts';

describe('runGateway', () => {
  let world: GatewayWorld;
  beforeEach(async () => {
    world = await GatewayWorld.create();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  it('is ready with its SVID, a snapshot and a heartbeat, and stops when told', async () => {
    const { at, stop, ended } = await world.start();
    await untilReady(at);
    assert.deepEqual(world.serials, [world.svid.value.serial]);
    assert.equal((await stat(join(world.directory, 'state'))).mode & 0o777, 0o700);
    assert.match(await askGateway(at, '/metrics'), /^writ_gateway_server_streams_total 1$/m);
    stop.abort();
    await ended;
    const { port = 0 } = at.listeners.get('postgres') ?? {};
    const [error] = await once(net.connect(port, '127.0.0.1'), 'error');
    assert.equal(error.code, 'ECONNREFUSED');
  });

  it('goes over to a new channel when its SVID rotates', async () => {
    const { at } = await world.start();
    await untilReady(at);
    world.svid.set(await world.authority.issue(world.svid.value.id));
    await until(() => world.server.hellos.length === 2);
    assert.equal(world.serials.at(-1), world.svid.value.serial);
    await untilReady(at);
  });

  it('S1: follows no server but the one of its trust domain', async () => {
    await world.startServer('spiffe://example.org/web');
    const { at } = await world.start();
    await sleep(300);
    assert.equal(await askGateway(at, '/ready'), 'no snapshot from the server yet');
    assert.equal(world.server.hellos.length, 0);
  });

  it('audits a refused connection', async () => {
    const { at } = await world.start();
    await untilReady(at);
    const { port = 0 } = at.listeners.get('postgres') ?? {};
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.end('GET / HTTP/1.1\r\n\r\n');
    await until(() => world.server.events.length === 1);
    const [event] = world.server.events;
    assert.deepEqual(
      [event?.type, event?.actor?.address, event?.attributes.port],
      ['connection.refused', '127.0.0.1', String(port)],
    );
  });

  it('speaks SSH on a port of its own, and audits who leaves it without a login', async () => {
    const any = { host: '127.0.0.1', port: 0 };
    const { at } = await world.start(world.configOf({ listen: { postgres: any, ssh: any } }));
    await untilReady(at);
    assert.deepEqual([...at.listeners.keys()], ['postgres', 'ssh']);
    const { port = 0 } = at.listeners.get('ssh') ?? {};
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', () => {});
    const [banner] = await once(socket, 'data');
    assert.match(String(banner), /^SSH-2\.0-/);
    socket.destroy();
    await until(() => world.server.events.length === 1);
    const [event] = world.server.events;
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
    const { at } = await world.start(world.configOf({ listen: { postgres, ssh } }));
    await untilReady(at);
    assert.deepEqual(world.server.hellos[0]?.ports, { ssh: port });
  });

  it('does not start on a port that is taken, and leaves nothing open', async () => {
    const taken = net.createServer();
    await once(taken.listen(0, '127.0.0.1'), 'listening');
    world.closers.defer(() => {
      taken.close();
    });
    const { port } = taken.address() as net.AddressInfo;
    const listen = { postgres: { host: '127.0.0.1', port } };
    const signal = new AbortController().signal;
    await assert.rejects(runGateway(world.configOf({ listen }), { signal, log: gatewayLog }), {
      code: 'STATE_UNUSABLE',
    });
  });

  it('ends without a word when it is stopped before it has an SVID', async () => {
    const stop = new AbortController();
    const ended = runGateway(world.configOf({ workload_api: join(world.directory, 'none.sock') }), {
      signal: stop.signal,
      log: gatewayLog,
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
