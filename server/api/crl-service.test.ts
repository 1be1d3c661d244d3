import assert from 'node:assert/strict';
import { parseCrl } from '../../identity/x509/crl.ts';
import { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { CALL, RunningServer } from '../../test/fixtures/running-server.ts';

describe('GetCrl', () => {
  it('gives an agent the lists, and nobody else', async () => {
    await using server = await RunningServer.start();
    const { channel } = await server.newAgent();
    const { crls } = await channel.client(AgentService).getCrl({}, CALL);
    assert.equal(crls.length, 1);
    assert.equal(parseCrl(crls[0] ?? Buffer.of()).revoked.size, 0);
    const stranger = await server.dial();
    await assert.rejects(stranger.client(AgentService).getCrl({}, CALL), {
      status: 'PERMISSION_DENIED',
    });
  });
});
