import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { GatewayUnderTest, until } from '../../test/fakes/gateway-under-test.ts';

describe('watchSessions', () => {
  let gateway: GatewayUnderTest;
  beforeEach(async () => {
    gateway = await GatewayUnderTest.start();
  });
  afterEach(() => gateway[Symbol.asyncDispose]());

  const inMs = (milliseconds: number) => new Date(gateway.clock.now().getTime() + milliseconds);
  const ended = /^end the session reached its end at 2026/;

  it('G2: ends a session within 1 s of the end that the server gave', async () => {
    const { server, clock } = gateway;
    server.answer = async (request) => ({
      ...(await server.openSession(request)),
      expiresAt: timestampFromDate(inMs(10_000)),
    });
    const { client } = await gateway.open();
    await clock.advance(9_800);
    assert.equal(client.lines.length, 1);
    await clock.advance(1_000);
    assert.match((await client.closed())[1] ?? '', ended);
  });

  it("S18: ends it at its SVID's end, whatever the server said and the wall clock does", async () => {
    const { clock } = gateway;
    gateway.notAfter = inMs(3_000);
    const { client } = await gateway.open();
    clock.jump(-4_000);
    await clock.advance(2_800);
    assert.equal(client.lines.length, 1);
    await clock.advance(1_000);
    assert.match((await client.closed())[1] ?? '', ended);
  });

  it("ends it when the server's time is past its end, though this machine slept", async () => {
    const { client } = await gateway.open();
    gateway.server.heartbeat({ serverTime: inMs(3_600_000) });
    await sleep(20);
    await gateway.clock.advance(100);
    assert.match((await client.closed())[1] ?? '', ended);
  });

  it('S6: a restart of the server ends no session of a standard backend', async () => {
    const { server, clock, core } = gateway;
    const { client } = await gateway.open();
    server.isBeating = false;
    server.dropStreams();
    await clock.advance(14_000);
    server.isBeating = true;
    server.dropStreams();
    await gateway.untilInTime(() => core.ready() === true);
    client.say('still here');
    assert.equal(await client.line(1), 'still here');
  });

  it('S6: a strict backend lets nobody in after 2 s of silence and ends sessions after 15 s', async () => {
    const { server, clock } = gateway;
    await gateway.grant({ name: 'read', backend: 'vault-db' });
    const { client } = await gateway.open('vault-db');
    server.isBeating = false;
    await clock.advance(2_100);
    assert.equal(
      await gateway.refusal('vault-db'),
      'refused UNAVAILABLE the gateway has not heard from its server for 2 s',
    );
    await clock.advance(12_000);
    assert.equal(client.lines.length, 1);
    await clock.advance(1_500);
    assert.match(
      (await client.closed())[1] ?? '',
      /^end the gateway has not heard from its server for 15 s$/,
    );
    await until(() => gateway.eventTypes().includes('session.ended.stale'));
  });
});
