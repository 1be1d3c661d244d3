import assert from 'node:assert/strict';
import { once } from 'node:events';
import { create } from '@bufbuild/protobuf';
import { ResourceService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { ConnectRequestSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import {
  AccessServer,
  GatewayStream,
  gatewayCaller,
  SHOP,
} from '../../test/fixtures/access-server.ts';
import { BACKEND, documents, GATEWAY, grantYaml } from '../../test/fixtures/access-world.ts';
import { RECORDING_PUBLIC_KEY } from '../../test/fixtures/recording-writer.ts';
import { findGateway } from './gateways.ts';

describe('GatewayLinks', () => {
  let server: AccessServer;
  beforeEach(async () => {
    server = await AccessServer.start();
  });
  afterEach(() => server[Symbol.asyncDispose]());

  it('answers a hello with the snapshot, then the revocations, then heartbeats', async () => {
    await server.world.apply(SHOP);
    await server.world.applier.delete('Grant', 'reads', { kind: 'operator' });
    await server.world.clock.advance(10);
    const stream = await server.connect();
    const [beat] = await stream.until('heartbeat');
    assert.deepEqual(
      stream.heard.map((message) => message.case),
      ['snapshot', 'revocation', 'heartbeat'],
    );
    assert.equal(beat?.revocationSeq, 1n);
    const now = Math.floor(server.world.clock.now().getTime() / 1000);
    assert.equal(beat?.serverTime?.seconds, BigInt(now));
    await server.world.clock.advance(1100);
    await stream.until('heartbeat', 3);
  });

  it('tells a gateway of its own backends alone', async () => {
    const other = 'spiffe://example.org/writ/gateway/other';
    await server.world.addGateway(other, ['stock']);
    const stock = documents(BACKEND, grantYaml('counts', {})).replaceAll(': shop\n', ': stock\n');
    await server.world.apply(documents(SHOP, stock));
    const narrow = await server.connect({}, gatewayCaller(other));
    const [snapshot] = await narrow.until('snapshot');
    assert.deepEqual(
      [snapshot?.backends, snapshot?.grants, snapshot?.columns, snapshot?.columnClasses].map(
        (list) => list?.map((one: { name: string }) => one.name),
      ),
      [['stock'], ['counts'], [], []],
    );
    const [all] = await (await server.connect()).until('snapshot');
    assert.equal(all?.backends.length, 2);
    assert.deepEqual(
      all?.columnClasses.map(({ name }) => name),
      ['national-id'],
    );
  });

  it('tells the SSH authorities, and whose certificates count by which', async () => {
    const [snapshot] = await (await server.connect()).until('snapshot');
    const { user, host } = server.world.sshAuthorities.value;
    assert.deepEqual(snapshot?.sshAuthorities?.user.map(Buffer.from), user);
    assert.deepEqual(snapshot?.sshAuthorities?.host.map(Buffer.from), host);
  });

  it('keeps the ports that a gateway tells of, the newest alone', async () => {
    const ports = async () => (await findGateway(server.world.store, GATEWAY))?.ports;
    assert.deepEqual(await ports(), {});
    await (await server.connect({ ports: { ssh: 2222, postgres: 5432 } })).until('heartbeat');
    assert.deepEqual(await ports(), { postgres: 5432, ssh: 2222 });
    await (await server.connect()).until('heartbeat');
    assert.deepEqual(await ports(), {});
  });

  const many = Object.fromEntries(Array.from({ length: 17 }, (_, n) => [`p${n}`, n + 1]));
  for (const ports of [{ ssh: 0 }, { ssh: 65_536 }, { 'a b': 1 }, { '': 1 }, many]) {
    it(`refuses a hello with the ports ${JSON.stringify(ports).slice(0, 40)}`, async () => {
      const stream = await server.connect({ ports });
      assert.match(await stream.end(), /hello.ports must be at most 16 protocols/);
      assert.deepEqual((await findGateway(server.world.store, GATEWAY))?.ports, {});
    });
  }

  it('sends what changes as it is committed: snapshots and revocations', async () => {
    const stream = await server.connect();
    await stream.until('heartbeat');
    await server.apply(SHOP);
    const snapshots = await stream.until('snapshot', 2);
    assert.equal(snapshots.at(-1)?.grants.length, 1);
    assert.ok((snapshots.at(-1)?.revision ?? 0n) > (snapshots[0]?.revision ?? 0n));
    const grant = { kind: 'Grant', name: 'reads' };
    const resources = await server.client(ResourceService);
    await resources.deleteResource(grant, server.options);
    const [revocation] = await stream.until('revocation');
    assert.deepEqual(revocation?.subject?.subject, { case: 'grant', value: 'reads' });
  });

  it('sends no revocation again that the gateway has, and refuses one that knows more', async () => {
    await server.world.apply(SHOP);
    await server.world.applier.delete('Grant', 'reads', { kind: 'operator' });
    const stream = await server.connect({ revocationSeq: 1n });
    await stream.until('heartbeat');
    assert.ok(stream.heard.every((message) => message.case !== 'revocation'));
    const ahead = await server.connect({ revocationSeq: 2n });
    assert.match(await ahead.end(), /knows of revocations that this server does not/);
  });

  it('accepts events once they are committed, and each of them once', async () => {
    const stream = await server.connect();
    const event = { type: 'pg.denied', writerSeq: 1n, reason: 'x' };
    stream.say({ case: 'events', value: { events: [event, { ...event, writerSeq: 2n }] } });
    const [accepted] = await stream.until('eventsAccepted');
    assert.equal(accepted?.writerSeq, 2n);
    stream.say({ case: 'events', value: { events: [{ ...event, writerSeq: 2n }] } });
    await stream.until('eventsAccepted', 2);
    const kept = await server.world.events('pg.denied');
    assert.deepEqual(
      kept.map(({ writer, writerSeq }) => [writer, writerSeq]),
      [
        [GATEWAY, 1n],
        [GATEWAY, 2n],
      ],
    );
  });

  it('ends the older stream of a gateway when it opens a newer one', async () => {
    const older = await server.connect();
    await older.until('heartbeat');
    const newer = await server.connect();
    await newer.until('heartbeat');
    assert.match(await older.end(), /a newer stream of this gateway is open/);
    assert.equal(newer.ended, undefined);
  });

  it('keeps the key that signs recordings, and tells of each change of it', async () => {
    await (await server.connect()).until('heartbeat');
    await (await server.connect()).until('heartbeat');
    await (await server.connect({ recordingKey: Buffer.alloc(32, 1) })).until('heartbeat');
    const events = await server.world.events('gateway.recording_key');
    assert.deepEqual(
      events.map(({ attributes }) => attributes.previous),
      ['', RECORDING_PUBLIC_KEY.toString('hex')],
    );
  });

  it('ends a stream that does not keep to the order of messages', async () => {
    const silent = new GatewayStream();
    silent.say({ case: 'lease', value: {} });
    await silent.run(await server.channel(gatewayCaller()), server.signal);
    assert.match(await silent.end(), /the first message must be a hello/);
    const twice = await server.connect();
    twice.say({ case: 'hello', value: { recordingKey: RECORDING_PUBLIC_KEY } });
    assert.match(await twice.end(), /only the first message is a hello/);
    const short = await server.connect({ recordingKey: Buffer.alloc(5) });
    assert.match(await short.end(), /must be of 32 bytes/);
  });

  it('cuts a gateway that does not read its stream for 10 s', async () => {
    const never = (async function* () {
      const value = { recordingKey: RECORDING_PUBLIC_KEY };
      yield create(ConnectRequestSchema, { message: { case: 'hello', value } });
      await once(server.signal, 'abort');
    })();
    const call = {
      caller: gatewayCaller(),
      requestId: 'r_1',
      method: '',
      metadata: new Map(),
      signal: server.signal,
    };
    const responses = server.services.gateway.connect(never, call)[Symbol.asyncIterator]();
    await responses.next();
    await server.world.clock.advance(9000);
    assert.deepEqual(server.disconnected, []);
    await server.world.clock.advance(2000);
    assert.deepEqual(server.disconnected.slice(0, 1), [GATEWAY]);
  });
});
