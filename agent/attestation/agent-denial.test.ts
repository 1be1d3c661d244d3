import assert from 'node:assert/strict';
import { PermissionDeniedDetails_Reason as Reason } from '../../proto/gen/spire/api/types/status_pb.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import { denied } from '../../test/fakes/spire-server.ts';
import { agentDenial } from './agent-denial.ts';

const error = (status: string, details: Uint8Array | undefined) =>
  new RpcError(status, 'agent denied', { details });

describe('agentDenial', () => {
  it('tells why the server refuses the agent for good', () => {
    const { details } = denied(Reason.AGENT_BANNED);
    assert.equal(agentDenial(error('PERMISSION_DENIED', details)), 'it is banned');
  });

  it('takes no other error for that', () => {
    const { details } = denied(Reason.AGENT_BANNED);
    for (const other of [
      error('UNAVAILABLE', details),
      error('PERMISSION_DENIED', undefined),
      error('PERMISSION_DENIED', Buffer.from('garbage')),
      error('PERMISSION_DENIED', denied(Reason.UNKNOWN).details),
      new Error('PERMISSION_DENIED'),
      undefined,
    ]) {
      assert.equal(agentDenial(other), undefined);
    }
  });
});
