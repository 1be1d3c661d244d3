import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { bundleToPem } from '../../identity/bundle.ts';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { svidPem } from '../../identity/x509-svid.ts';
import { SnapshotSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import {
  askGateway,
  GatewayWorld,
  gatewayLog,
  type StartedGateway,
  untilReady,
} from '../../test/fixtures/gateway-world.ts';
import { descendants } from '../../test/fixtures/process-facts.ts';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { errorOf, WireClient } from '../../test/fixtures/wire-client.ts';
import { runProgram } from '../../test/fixtures/writ-up.ts';
import { runGateway } from '../main.ts';
import { startupMessage } from '../plugins/backend/postgres/wire/frontend-messages.ts';

const WEB = 'spiffe://example.org/web';
const DAY_MS = 86_400_000;
const HEARTBEAT_MS = 500;
const WAIT_MS = 30_000;
const ANY_PORT = { host: '127.0.0.1', port: 0 };
const never = new AbortController().signal;

/** The worker processes of the gateways in this process. */
function workerPids(): number[] {
  return descendants(process.pid).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('worker-main');
    } catch {
      return false;
    }
  });
}

describe('Workers', function () {
  // Each test starts two processes that load the whole gateway.
  this.timeout(60_000);
  let world: GatewayWorld;
  /** Of the clients' SVIDs. */
  let serials: string[];
  beforeEach(async () => {
    serials = [];
    world = await GatewayWorld.create();
    const expiresAt = timestampFromDate(new Date(Date.now() + DAY_MS));
    world.server.snapshot = create(SnapshotSchema, {
      revision: 1n,
      backends: [{ name: 'orders-db', type: { case: 'postgres', value: { host: '127.0.0.1' } } }],
      grants: [
        {
          ...{ name: 'read', identity: WEB, backend: 'orders-db', expiresAt },
          rights: { case: 'postgres', value: { groupRole: 'writ_g_0000000000000000' } },
        },
      ],
    });
    const beating = setInterval(() => world.server.heartbeat(), HEARTBEAT_MS);
    world.closers.defer(() => clearInterval(beating));
  });
  afterEach(() => world[Symbol.asyncDispose]());

  async function start(limit = 10): Promise<StartedGateway> {
    const limits = { sessions: 100, sessions_per_identity: limit };
    const gateway = await world.start(world.configOf({ workers: 2, limits }));
    await untilReady(gateway.at);
    return gateway;
  }

  async function ask({ at }: StartedGateway): Promise<WireClient> {
    const svid = await world.authority.issue(SpiffeId.parse(WEB));
    serials.push(svid.serial);
    const { certificates: cert, key } = svidPem(svid);
    const ca = bundleToPem(world.authority.bundle.value);
    const { port = 0 } = at.listeners.get('postgres') ?? {};
    const client = await WireClient.secure(port, {
      ...{ ca, cert, key, minVersion: 'TLSv1.3' },
      // Whose certificate it is its SPIFFE ID says; this one has no name.
      checkServerIdentity: () => undefined,
    });
    world.closers.defer(() => client[Symbol.dispose]());
    client.send(
      startupMessage([
        ['user', 'web'],
        ['database', 'orders-db'],
      ]),
    );
    return client;
  }

  async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
    const end = systemClock.monotonicMs() + WAIT_MS;
    while (!(await holds())) {
      if (systemClock.monotonicMs() > end) assert.fail('it never came true');
      await systemClock.wait(20, never);
    }
  }

  const metric = async ({ at }: StartedGateway, name: string) =>
    Number(new RegExp(`^${name} (.+)$`, 'm').exec(await askGateway(at, '/metrics'))?.[1]);

  const untilMetric = (gateway: StartedGateway, name: string, value: number) =>
    until(async () => (await metric(gateway, name)) === value);

  it('are as many as configured, behind one stream to the server, and end with the gateway', async () => {
    const gateway = await start();
    assert.equal(workerPids().length, 2);
    assert.equal(await metric(gateway, 'writ_gateway_workers'), 2);
    assert.equal(world.server.hellos.length, 1);
    gateway.stop.abort();
    await gateway.ended;
    assert.deepEqual(workerPids(), []);
    const { port = 0 } = gateway.at.listeners.get('postgres') ?? {};
    const [error] = await once(net.connect(port, '127.0.0.1'), 'error');
    assert.equal(error.code, 'ECONNREFUSED');
  });

  it('hold to the sessions of one identity over all of them', async () => {
    world.server.answer = () => new Promise(() => undefined);
    const gateway = await start(3);
    for (let count = 1; count <= 3; count += 1) {
      await ask(gateway);
      await until(() => world.server.opened.length === count);
    }
    for (let more = 0; more < 4; more += 1) {
      const refused = errorOf(await (await ask(gateway)).rest());
      assert.match(refused?.message ?? '', /has its most of 3 sessions open/);
    }
    assert.equal(world.server.opened.length, 3);
  });

  it('pass on what the server refuses, and their events with one sequence', async () => {
    world.server.snapshot.grants = [];
    const gateway = await start();
    for (let count = 1; count <= 4; count += 1) {
      const refused = errorOf(await (await ask(gateway)).rest());
      assert.match(refused?.message ?? '', /web holds no grant on "orders-db"/);
      const { port = 0 } = gateway.at.listeners.get('postgres') ?? {};
      const stranger = net.connect(port, '127.0.0.1');
      stranger.on('error', () => undefined);
      stranger.end('GET / HTTP/1.1\r\n\r\n');
      await once(stranger, 'close');
    }
    const types = () => new Set(world.server.events.map(({ type }) => type));
    await until(() => types().has('connection.refused') && types().has('session.denied'));
    const numbers = world.server.events.map(({ writerSeq }) => writerSeq);
    assert.deepEqual(
      numbers,
      [...new Set(numbers)].sort((one, other) => Number(one - other)),
    );
  });

  it('are started again when they are killed; what they were about to open is closed', async () => {
    const held: (() => void)[] = [];
    const { server } = world;
    server.answer = async (request) => {
      await new Promise<void>((resolve) => held.push(resolve));
      return { ...(await server.openSession(request)), svidSerial: serials.at(-1) ?? '' };
    };
    const gateway = await start();
    const client = await ask(gateway);
    await until(() => held.length === 1);
    const before = workerPids();
    for (const pid of before) process.kill(pid, 'SIGKILL');
    await client.rest();
    await untilMetric(gateway, 'writ_gateway_workers_lost_total', 2);
    held[0]?.();
    await until(() => server.closed.length === 1);
    assert.equal(server.closed[0]?.reason, "the gateway's worker process has died");
    await untilMetric(gateway, 'writ_gateway_workers', 2);
    assert.ok(workerPids().every((pid) => !before.includes(pid)));
    assert.equal(await askGateway(gateway.at, '/ready'), 'ready');
  });

  it('are counted together, those that are lost too', async () => {
    const gateway = await start();
    const { port = 0 } = gateway.at.listeners.get('postgres') ?? {};
    for (let count = 0; count < 4; count += 1) {
      const stranger = net.connect(port, '127.0.0.1');
      stranger.on('error', () => undefined);
      stranger.end('GET / HTTP/1.1\r\n\r\n');
      await once(stranger, 'close');
    }
    const refused = 'writ_gateway_connections_refused_total{listener="backend"}';
    await untilMetric(gateway, refused.replaceAll(/[{}]/g, '\\$&'), 4);
    for (const pid of workerPids()) process.kill(pid, 'SIGKILL');
    await untilMetric(gateway, 'writ_gateway_workers_lost_total', 2);
    assert.equal(await metric(gateway, refused.replaceAll(/[{}]/g, '\\$&')), 4);
  });

  it('show SSH clients one host key', async function () {
    if (!hasProgram('ssh-keyscan')) skipWithout(this, 'ssh-keyscan');
    const gateway = await world.start(
      world.configOf({ workers: 2, listen: { postgres: ANY_PORT, ssh: ANY_PORT } }),
    );
    await untilReady(gateway.at);
    const { port = 0 } = gateway.at.listeners.get('ssh') ?? {};
    const keys = new Set<string>();
    for (let count = 0; count < 4; count += 1) {
      const args = ['-t', 'ed25519', '-p', String(port), '127.0.0.1'];
      const { stdout } = await runProgram('ssh-keyscan', args);
      keys.add(stdout.trim());
    }
    assert.equal(keys.size, 1);
    assert.match([...keys][0] ?? '', / ssh-ed25519 /);
  });

  it('do not start on a port that is taken, and leave none behind', async () => {
    const taken = net.createServer();
    await once(taken.listen(0, '127.0.0.1'), 'listening');
    world.closers.defer(() => {
      taken.close();
    });
    const { port } = taken.address() as net.AddressInfo;
    const listen = { postgres: { host: '127.0.0.1', port } };
    const config = world.configOf({ workers: 2, listen });
    await assert.rejects(runGateway(config, { signal: never, log: gatewayLog }), {
      code: 'STATE_UNUSABLE',
      message: `cannot listen on 127.0.0.1:${port}: EADDRINUSE`,
    });
    assert.deepEqual(workerPids(), []);
  });

  it('end without a word when the gateway is stopped before they serve', async () => {
    const stop = new AbortController();
    const ended = runGateway(world.configOf({ workers: 2 }), {
      signal: stop.signal,
      log: gatewayLog,
    });
    await until(() => workerPids().length > 0);
    stop.abort();
    await ended;
    assert.deepEqual(workerPids(), []);
  });
});
