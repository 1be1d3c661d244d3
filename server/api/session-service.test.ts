import assert from 'node:assert/strict';
import { SessionService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { AccessServer, SHOP } from '../../test/fixtures/access-server.ts';
import { frameFile, RecordingWriter } from '../../test/fixtures/recording-writer.ts';

describe('sessionService', () => {
  let server: AccessServer;
  beforeEach(async () => {
    server = await AccessServer.start();
  });
  afterEach(() => server[Symbol.asyncDispose]());

  it('lists, shows and kills sessions', async () => {
    await server.world.apply(SHOP);
    const { sessionId } = await server.openSession();
    const service = await server.client(SessionService);
    assert.equal(
      (await service.listSessions({ openOnly: true }, server.options)).sessions.length,
      1,
    );
    const { session } = await service.getSession({ sessionId }, server.options);
    assert.equal(session?.grant, 'reads');
    await service.killSession({ sessionId }, server.options);
    const [revocation] = await server.world.revocations.since(0n);
    assert.equal(revocation?.reason, 'ended by an operator');
    const bad = service.killSession({ sessionId, reason: 'a\nb' }, server.options);
    await assert.rejects(bad, { faultCode: 'INVALID_ARGUMENT' });
  });

  const replay = async (sessionId: string) => {
    const events: string[] = [];
    const service = await server.client(SessionService);
    for await (const { message } of service.replaySession({ sessionId }, server.options)) {
      if (message.case === 'verdict') return { events, verdict: message.value };
      if (message.case === 'event') events.push(message.value.event.case ?? '');
    }
    return assert.fail('no verdict');
  };

  it('reads the record through the gateway and says whether it holds', async () => {
    await server.world.apply(SHOP);
    const stream = await server.connect();
    await stream.until('heartbeat');
    const { sessionId } = await server.openSession();
    const writer = new RecordingWriter(sessionId);
    writer.segment(2);
    const bytes = frameFile(writer.segments.flat());
    stream.onRead = ({ requestId }) => {
      stream.say({ case: 'recording', value: { requestId, data: bytes.subarray(0, 50) } });
      const data = bytes.subarray(50);
      stream.say({ case: 'recording', value: { requestId, data, last: true } });
    };
    const { events, verdict } = await replay(sessionId);
    assert.deepEqual(events, ['statement', 'statement']);
    assert.equal(verdict.state, 'verified', verdict.detail);
    const [event] = await server.world.events('recording.accessed');
    assert.equal(event?.actor?.kind, 'operator');
    assert.equal(event?.sessionId, sessionId);
  });

  it('says so when the gateway has none, is silent or is not there', async () => {
    await server.world.apply(SHOP);
    const { sessionId } = await server.openSession();
    await assert.rejects(replay('s_none'), { faultCode: 'NOT_FOUND' });
    await assert.rejects(replay(sessionId), { faultCode: 'UNAVAILABLE' });
    const stream = await server.connect();
    await stream.until('heartbeat');
    stream.onRead = ({ requestId }) =>
      stream.say({ case: 'recording', value: { requestId, error: 'none' } });
    await assert.rejects(replay(sessionId), { faultCode: 'NOT_FOUND' });
    stream.onRead = () => void server.world.clock.advance(10_500);
    await assert.rejects(replay(sessionId), {
      faultCode: 'UNAVAILABLE',
      message: 'the gateway did not answer within 10 s',
    });
  });
});
