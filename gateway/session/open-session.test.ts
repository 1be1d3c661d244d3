import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Fault } from '../../runtime/fault.ts';
import { GatewayUnderTest, until, WEB } from '../../test/fakes/gateway-under-test.ts';

describe('sessionDesk', () => {
  let gateway: GatewayUnderTest;
  beforeEach(async () => {
    gateway = await GatewayUnderTest.start();
  });
  afterEach(() => gateway[Symbol.asyncDispose]());

  it('S13: lists the grants where several fit and none is named, and opens the named one', async () => {
    await gateway.grant({ name: 'read' }, { name: 'write' });
    assert.equal(
      await gateway.refusal(),
      'refused PERMISSION_DENIED you hold several grants on "orders-db": name one of read, write as the user',
    );
    assert.equal(gateway.server.opened.length, 0);
    await gateway.open('orders-db write');
    assert.equal(gateway.server.opened.at(-1)?.grant, 'write');
  });

  it('S13: names the grant to the server where the name of a database chose it', async () => {
    const rights = (database: string) => ({ case: 'postgres' as const, value: { database } });
    await gateway.grant(
      { name: 'orders', backend: 'shop', rights: rights('') },
      { name: 'invoices', backend: 'shop', rights: rights('billing') },
    );
    await gateway.open('billing');
    await gateway.open('shop');
    assert.deepEqual(
      gateway.server.opened.map(({ backend, grant, reason }) => [backend, grant, reason]),
      [
        ['shop', 'invoices', 'a test'],
        ['shop', 'orders', 'a test'],
      ],
    );
  });

  it('G12: opens nothing without a grant, and audits it, counted', async () => {
    const { server } = gateway;
    for (let n = 0; n < 5; n += 1) {
      assert.equal(
        await gateway.refusal('other-db'),
        `refused PERMISSION_DENIED ${WEB} holds no grant on "other-db"`,
      );
    }
    await until(() => server.events.length === 1);
    assert.equal(server.opened.length, 0);
    await gateway.clock.advance(61_000);
    await until(() => server.events.length === 2);
    assert.deepEqual(
      server.events.map(({ type, spiffeId, backend, attributes }) => [
        ...[type, spiffeId, backend, attributes.count],
      ]),
      [
        ['session.denied', WEB, 'other-db', '1'],
        ['session.denied', WEB, 'other-db', '4'],
      ],
    );
  });

  it('opens nothing before the revocations that the last heartbeat named are applied', async () => {
    const { server } = gateway;
    server.heartbeat({ revocationSeq: 1n });
    await sleep(30);
    const client = gateway.connect();
    await sleep(50);
    assert.deepEqual([server.opened.length, client.lines], [0, []]);
    server.revoke({ case: 'grant', value: 'other' }, 'grant.delete', 'gone');
    assert.match(await client.line(0), /^open /);
  });

  it('opens nothing while they do not come', async () => {
    gateway.server.heartbeat({ revocationSeq: 1n });
    await sleep(30);
    const client = gateway.connect();
    await sleep(30);
    await gateway.clock.advance(2_100);
    assert.deepEqual(await client.closed(), [
      'refused UNAVAILABLE the gateway is behind its server: try again',
    ]);
    assert.equal(gateway.server.opened.length, 0);
  });

  it('opens nothing for whom a revocation named while the server was answering', async () => {
    const { server } = gateway;
    server.answer = async (request) => {
      const answer = await server.openSession(request);
      server.revoke({ case: 'spiffeId', value: WEB }, 'lock.create', 'locked by uid:0');
      await sleep(50);
      return answer;
    };
    assert.equal(await gateway.refusal(), 'refused PERMISSION_DENIED locked by uid:0');
    await until(() => server.closed.length === 1);
    assert.equal(server.closed[0]?.sessionId, 's_1');
  });

  it("says why when it is the server that refuses, and audits nothing: it is the server's event", async () => {
    gateway.server.answer = async () => {
      throw new Fault('PERMISSION_DENIED', 'the X509-SVID is not one that this server issued');
    };
    assert.equal(
      await gateway.refusal(),
      'refused PERMISSION_DENIED the X509-SVID is not one that this server issued',
    );
    assert.deepEqual(gateway.server.events, []);
  });

  it('opens nothing when the server cannot decide', async () => {
    gateway.server.answer = async () => {
      throw new Fault('STORE_UNAVAILABLE', 'disk full');
    };
    assert.equal(
      await gateway.refusal(),
      'refused UNAVAILABLE the gateway got no answer from its server: no session',
    );
  });

  for (const wrong of [
    { spiffeId: 'spiffe://example.org/other' },
    { svidSerial: 'ff' },
    { grant: { name: 'read', backend: 'other-db', identity: WEB } },
  ]) {
    it(`opens nothing on an answer with another ${Object.keys(wrong)[0]} than asked for`, async () => {
      const { server } = gateway;
      server.answer = async (request) => Object.assign(await server.openSession(request), wrong);
      assert.equal(await gateway.refusal(), 'refused INTERNAL internal error');
      await until(() => server.closed.length === 1);
    });
  }

  it('opens nothing under another grant than its own snapshot gives the client', async () => {
    const { server } = gateway;
    const grant = { name: 'other', backend: 'orders-db', identity: WEB };
    server.answer = async (request) => Object.assign(await server.openSession(request), { grant });
    assert.match(await gateway.refusal(), /^refused UNAVAILABLE the grants have just changed/);
    await until(() => server.closed.length === 1);
  });

  it("S18: opens nothing when this machine's clock is more than 5 s off its server's", async () => {
    gateway.clock.jump(6_000);
    assert.equal(
      await gateway.refusal(),
      "refused UNAVAILABLE the gateway's clock is 6 s off its server's",
    );
  });

  it('opens nothing that cannot be recorded, and tells the server', async () => {
    await mkdir(join(gateway.stateDir, 'recordings', 's_1'));
    assert.match(await gateway.refusal(), /^refused RECORDING_UNWRITABLE /);
    await until(() => gateway.server.closed.length === 1);
    assert.equal(gateway.server.closed[0]?.sessionId, 's_1');
  });

  it('ends a session whose record cannot go on, and tells the client', async () => {
    const { client } = await gateway.open();
    client.say('x'.repeat(9 * 1024 * 1024));
    assert.equal(
      (await client.closed())[1],
      'end the session cannot be recorded, so it cannot go on',
    );
    await until(() => gateway.server.closed.length === 1);
    assert.equal(gateway.server.closed[0]?.recordingHash.length, 0);
    await until(() => gateway.eventTypes().includes('recording.failed'));
  });

  it('bounds the sessions of one identity', async () => {
    for (let n = 0; n < 3; n += 1) await gateway.open();
    assert.equal(
      await gateway.refusal(),
      `refused RESOURCE_EXHAUSTED ${WEB} has its most of 3 sessions open`,
    );
  });

  it('asks again when a Hello crossed the answer, since the server closes what it did not list', async () => {
    const { server } = gateway;
    const usual = server.answer;
    server.answer = async (request) => {
      server.answer = usual;
      const answer = await server.openSession(request);
      const before = server.hellos.length;
      server.dropStreams();
      await gateway.untilInTime(() => server.hellos.length > before);
      return answer;
    };
    const { id } = await gateway.open();
    assert.equal(id, 's_2');
    await until(() => server.closed.length === 1);
    assert.equal(server.closed[0]?.sessionId, 's_1');
  });
});
