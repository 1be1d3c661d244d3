import assert from 'node:assert/strict';
import { deserialize, serialize } from 'node:v8';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { OpenSessionResponseSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { BackendSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { SessionProof, SessionRequest } from '../session/session-desk.ts';
import { faultOf, requestOf, sessionOf, wireFault, wireRequest, wireSession } from './messages.ts';

const AT = new Date('2026-03-01T12:00:00Z');
const bytes = (...values: number[]) => new Uint8Array(values);
/** What IPC does to a message. */
const carried = <T>(message: T): T => deserialize(serialize(message));

describe('messages between a primary and its workers', () => {
  const proofs: readonly SessionProof[] = [
    { case: 'x509', chain: [bytes(1, 2), bytes(3)] },
    { case: 'ssh', certificate: bytes(1), signedData: bytes(2), signature: bytes(3) },
  ];
  for (const proof of proofs) {
    it(`carry a request whose proof is of ${proof.case}`, () => {
      const request: SessionRequest = {
        ...{ backend: 'orders-db', grant: '', login: 'deploy', serverName: 'db.example.org' },
        peer: {
          ...{ id: SpiffeId.parse('spiffe://example.org/web'), serial: '0a0b', notAfter: AT },
          proof,
        },
        address: '192.0.2.1:4711',
        client: { application_name: 'psql' },
      };
      const { peer, ...rest } = requestOf(carried(wireRequest(request)));
      const { peer: theirs, ...others } = request;
      assert.deepEqual(rest, others);
      assert.deepEqual({ ...peer, id: String(peer.id) }, { ...theirs, id: String(theirs.id) });
    });
  }

  it('carry an admitted session', () => {
    const grant = { name: 'read', backend: 'orders-db', identity: 'spiffe://example.org/web' };
    const answer = create(OpenSessionResponseSchema, {
      ...{ sessionId: 's_1', grant, spiffeId: grant.identity, svidSerial: '0a0b' },
      ...{ entryId: 'e', agentId: 'a', owner: 'o', expiresAt: timestampFromDate(AT) },
    });
    const backend = create(BackendSchema, { name: 'orders-db' });
    const subjects = {
      ...{ sessionId: 's_1', grant: 'read', entryId: 'e', spiffeId: grant.identity },
      ...{ agentId: 'a', serial: '0a0b', backend: 'orders-db' },
    };
    const session = sessionOf(
      carried(
        wireSession({
          ...{ answer, subjects, grant: answer.grant ?? assert.fail(), backend },
          ...{ expiresAt: AT, close: () => undefined },
        }),
      ),
    );
    assert.deepEqual(session, { answer, subjects, grant: answer.grant, backend, expiresAt: AT });
  });

  it('carry a fault without its cause, and a defect as no more than that', () => {
    const fault = new Fault('RESOURCE_EXHAUSTED', 'no place', { cause: new Error('detail') });
    const { code, message, cause } = faultOf(carried(wireFault(fault)));
    assert.deepEqual([code, message, cause], ['RESOURCE_EXHAUSTED', 'no place', undefined]);
    const defect = faultOf(carried(wireFault(new Error('a secret'))));
    assert.deepEqual([defect.code, defect.message], ['INTERNAL', 'internal error']);
  });
});
