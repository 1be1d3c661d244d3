import assert from 'node:assert/strict';
import { GatewayService } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import {
  AccessServer,
  gatewayCaller,
  SHOP,
  WORKLOAD_CALLER,
} from '../../test/fixtures/access-server.ts';

describe('gatewayService', () => {
  let server: AccessServer;
  beforeEach(async () => {
    server = await AccessServer.start();
  });
  afterEach(() => server[Symbol.asyncDispose]());

  describe('S1 who may call what', () => {
    it('S1 a workload that is no gateway record cannot call', async () => {
      const gateway = await server.client(GatewayService, WORKLOAD_CALLER);
      const opening = gateway.openSession({ backend: 'shop' }, server.options);
      await assert.rejects(opening, { faultCode: 'PERMISSION_DENIED' });
      const closing = gateway.closeSession({ sessionId: 's_x' }, server.options);
      await assert.rejects(closing, { faultCode: 'PERMISSION_DENIED' });
      const stream = await server.connect({}, WORKLOAD_CALLER);
      assert.match(await stream.end(), /only gateways may call this/);
      assert.deepEqual(stream.heard, []);
    });

    it('S1 a gateway whose record is gone gets no snapshot', async () => {
      await server.world.run('delete from gateways');
      const stream = await server.connect();
      assert.match(await stream.end(), /no record as a gateway/);
      assert.deepEqual(stream.heard, []);
    });
  });

  it('opens and closes a session', async () => {
    await server.world.apply(SHOP);
    const opened = await server.openSession();
    assert.equal(opened.grant?.name, 'reads');
    const { closeSession } = await server.client(GatewayService, gatewayCaller());
    await closeSession({ sessionId: opened.sessionId, reason: 'done' }, server.options);
    assert.equal((await server.world.sessions.get(opened.sessionId)).closeReason, 'done');
  });

  it('bounds what comes over the wire', async () => {
    const gateway = await server.client(GatewayService, gatewayCaller());
    for (const request of [
      { backend: 'x'.repeat(300) },
      { backend: 'a\nb' },
      { clientChain: Array.from({ length: 9 }, () => Buffer.alloc(1)) },
      { clientChain: [Buffer.alloc(65_537)] },
      { login: 'x'.repeat(300) },
      { login: 'a\nb' },
      { sshProof: { certificate: Buffer.alloc(65_537) } },
      { sshProof: { signedData: Buffer.alloc(65_537) } },
      { sshProof: { signature: Buffer.alloc(65_537) } },
    ]) {
      const opening = gateway.openSession(request, server.options);
      await assert.rejects(opening, { faultCode: 'INVALID_ARGUMENT' });
    }
  });
});
