import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Fault } from '../runtime/fault.ts';
import { GatewayUnderTest, until } from '../test/fakes/gateway-under-test.ts';

describe('startCore', () => {
  let gateway: GatewayUnderTest;
  beforeEach(async () => {
    gateway = await GatewayUnderTest.start();
  });
  afterEach(() => gateway[Symbol.asyncDispose]());

  it('opens a session that the server has committed, records it and tells how it ended', async () => {
    const { server } = gateway;
    const { client, id } = await gateway.open();
    client.say('hello');
    assert.equal(await client.line(1), 'hello');
    client.say('leave');
    await until(() => server.closed.length === 1);
    const [request] = server.opened;
    assert.deepEqual(
      [request?.backend, request?.grant, request?.clientAddress, request?.clientChain[0]?.[2]],
      ['orders-db', '', '192.0.2.7:4711', 3],
    );
    const [closed] = server.closed;
    assert.deepEqual(
      [closed?.sessionId, closed?.reason, closed?.statements, closed?.recordingHash.length],
      [id, 'the connection was closed', 1n, 32],
    );
    await until(() => gateway.eventTypes().includes('recording.segment.sealed'));
    const sealed = server.events.find(({ type }) => type === 'recording.segment.sealed');
    const hash = Buffer.from(closed?.recordingHash ?? []).toString('hex');
    assert.deepEqual([sealed?.sessionId, sealed?.attributes.hash], [id, hash]);
    const segment = await readFile(join(gateway.stateDir, 'recordings', id, '0.seg'));
    assert.ok(segment.includes('hello'));
  });

  it('is ready only with a snapshot, a fresh heartbeat and the right time', async () => {
    const { core, clock, server } = gateway;
    clock.jump(6_000);
    assert.equal(core.ready(), "the gateway's clock is 6 s off its server's");
    clock.jump(-6_000);
    assert.equal(core.ready(), true);
    server.isBeating = false;
    await clock.advance(5_100);
    assert.equal(core.ready(), 'no heartbeat from the server');
  });

  it('stops by telling clients, sealing records and closing sessions over there', async () => {
    const { client } = await gateway.open();
    await gateway.stop('the gateway is stopping');
    assert.deepEqual((await client.closed()).slice(1), ['end the gateway is stopping']);
    const [closed] = gateway.server.closed;
    assert.deepEqual(
      [closed?.reason, closed?.recordingHash.length],
      ['the gateway is stopping', 32],
    );
    assert.match(await gateway.refusal(), /^refused UNAVAILABLE/);
    assert.deepEqual(await readdir(join(gateway.stateDir, 'recordings')), ['s_1']);
  });

  it('stops within 3 s though the server is deaf', async () => {
    gateway.server.onClose = () => {
      throw new Fault('STORE_UNAVAILABLE', 'busy');
    };
    await gateway.open();
    const before = gateway.clock.monotonicMs();
    await gateway.stop('the gateway is stopping');
    assert.ok(gateway.clock.monotonicMs() - before <= 3_500);
    assert.deepEqual(gateway.server.closed, []);
  });
});
