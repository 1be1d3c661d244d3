import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { GatewayUnderTest, until, WEB, WEB_AGENT } from '../../test/fakes/gateway-under-test.ts';

describe('ServerStream', () => {
  let gateway: GatewayUnderTest;
  beforeEach(async () => {
    gateway = await GatewayUnderTest.start();
  });
  afterEach(() => gateway[Symbol.asyncDispose]());

  it('tells its ports and its recording key, and on coming again its sessions and its last revocation', async () => {
    const { server } = gateway;
    const { id } = await gateway.open();
    const [first] = server.hellos;
    assert.deepEqual([first?.sessionIds, first?.recordingKey.length], [[], 32]);
    assert.deepEqual(first?.ports, { postgres: 6432 });
    server.revoke({ case: 'grant', value: 'none' }, 'grant.delete', 'gone');
    await sleep(30);
    server.dropStreams();
    await gateway.untilInTime(() => server.hellos.length === 2);
    assert.deepEqual(server.hellos[1]?.sessionIds, [id]);
    assert.equal(server.hellos[1]?.revocationSeq, 1n);
  });

  it('sends a lease each second with the live sessions', async () => {
    const { id } = await gateway.open();
    await gateway.clock.advance(2_100);
    await until(() => gateway.server.leases.length === 2);
    assert.deepEqual(gateway.server.leases[1]?.sessionIds, [id]);
  });

  it('leaves a stream that is silent for a new one', async () => {
    const before = gateway.server.hellos.length;
    await gateway.clock.advance(6_500);
    await until(() => gateway.server.hellos.length > before);
  });

  const subjects = [
    ['a kill', { case: 'sessionId', value: 's_1' }],
    ['a lock of its SPIFFE ID', { case: 'spiffeId', value: WEB }],
    ['the deletion of its grant', { case: 'grant', value: 'read' }],
    ['the deletion of its entry', { case: 'entryId', value: 'entry-1' }],
    ["its agent's ban", { case: 'agentId', value: WEB_AGENT }],
    ['a lock of its backend', { case: 'backend', value: 'orders-db' }],
  ] as const;
  for (const [what, subject] of subjects) {
    it(`ends a session by ${what} at once, and tells the client and the server why`, async () => {
      const { client } = await gateway.open();
      gateway.server.revoke(subject, 'test', `ended by ${what}`);
      assert.deepEqual((await client.closed()).slice(1), [`end ended by ${what}`]);
      await until(() => gateway.server.closed.length === 1);
      assert.equal(gateway.server.closed[0]?.reason, `ended by ${what}`);
    });
  }

  it('G14: ends the sessions of a grant that a snapshot no longer holds as it was', async () => {
    const { client } = await gateway.open();
    await gateway.grant({ name: 'read', purpose: 'another' });
    assert.deepEqual((await client.closed()).slice(1), [
      'end the grant read was changed or deleted',
    ]);
  });

  it('gives a recording to its server, and says so when there is none', async () => {
    const { server } = gateway;
    const { client, id } = await gateway.open();
    client.say('hello');
    await client.line(1);
    server.send({ case: 'readRecording', value: { requestId: 7n, sessionId: id } });
    server.send({ case: 'readRecording', value: { requestId: 8n, sessionId: 's_none' } });
    await until(() => server.chunks.filter(({ last }) => last).length === 2);
    const data = server.chunks.filter(({ requestId }) => requestId === 7n);
    assert.ok(Buffer.concat(data.map((chunk) => chunk.data)).includes('hello'));
    const [none] = server.chunks.filter(({ requestId }) => requestId === 8n);
    assert.deepEqual([none?.error, none?.last], ['this gateway has no such recording', true]);
  });

  it('sends events again that the server has not accepted', async () => {
    const { server } = gateway;
    server.isAccepting = false;
    await gateway.refusal('other-db');
    await until(() => server.events.length === 1);
    server.events.length = 0;
    server.isAccepting = true;
    server.dropStreams();
    await gateway.untilInTime(() => server.events.length === 1);
    assert.deepEqual(
      server.events.map(({ writerSeq, type }) => [writerSeq, type]),
      [[1n, 'session.denied']],
    );
  });
});
