import assert from 'node:assert/strict';
import { create, toBinary } from '@bufbuild/protobuf';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import {
  OpenSessionResponseSchema,
  SnapshotSchema,
} from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { BackendSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { SessionRequest } from '../session/session-desk.ts';
import type { ToPrimary, WireSession } from './messages.ts';
import { PrimaryLink } from './primary-link.ts';

const REQUEST: SessionRequest = {
  ...{ backend: 'orders-db', grant: '', address: '192.0.2.1:4711', client: {} },
  peer: {
    ...{ id: SpiffeId.parse('spiffe://example.org/web'), serial: '0a0b', notAfter: new Date(0) },
    proof: { case: 'x509', chain: [] },
  },
};

const SESSION: WireSession = {
  answer: toBinary(
    OpenSessionResponseSchema,
    create(OpenSessionResponseSchema, { sessionId: 's_1', grant: { name: 'read' } }),
  ),
  backend: toBinary(BackendSchema, create(BackendSchema, { name: 'orders-db' })),
  expiresAt: new Date(0),
};

const REVOKED = { code: 'PERMISSION_DENIED', message: 'it is over' } as const;

describe('PrimaryLink', () => {
  let sent: ToPrimary[];
  let levels: string[];
  let link: PrimaryLink;
  beforeEach(() => {
    sent = [];
    levels = [];
    link = new PrimaryLink({
      send: (message) => sent.push(message),
      samples: () => new Map(),
      onLevel: (level) => levels.push(level),
    });
  });

  const kinds = () => sent.map(({ kind }) => kind);

  it('has a session admitted, ended and closed over there', async () => {
    const ends: string[] = [];
    const admitting = link.admit(REQUEST, (fault, cause) => ends.push(`${fault.message} ${cause}`));
    link.receive({ kind: 'admitted', ticket: 1, session: SESSION });
    const session = await admitting;
    assert.deepEqual([session.subjects.sessionId, session.backend.name], ['s_1', 'orders-db']);
    link.receive({ kind: 'end', ticket: 1, fault: REVOKED, cause: 'revoked' });
    assert.deepEqual(ends, ['it is over revoked']);
    session.close({ reason: 'over' });
    session.close({ reason: 'again' });
    link.receive({ kind: 'end', ticket: 1, fault: REVOKED, cause: 'revoked' });
    assert.deepEqual([kinds(), ends.length], [['admit', 'close'], 1]);
  });

  it('tells of an end that comes before the session is there', async () => {
    const ends: string[] = [];
    const admitting = link.admit(REQUEST, (fault) => ends.push(fault.message));
    link.receive({ kind: 'end', ticket: 1, fault: REVOKED, cause: 'revoked' });
    link.receive({ kind: 'admitted', ticket: 1, session: SESSION });
    await admitting;
    assert.deepEqual(ends, ['it is over']);
  });

  it('throws what the primary refuses by', async () => {
    const admitting = link.admit(REQUEST, () => undefined);
    link.receive({ kind: 'refused', ticket: 1, fault: REVOKED });
    await assert.rejects(admitting, REVOKED);
  });

  it('passes messages between protocols of one kind, and answers for a handler that fails', async () => {
    const told: unknown[] = [];
    const peers = link.peersOf('postgres', { index: 0, count: 2 });
    peers.onTold(async (message) => {
      told.push(message);
      throw new Error('no');
    });
    const telling = peers.tell(1, 'cancel');
    assert.deepEqual(sent, [
      { kind: 'tell', id: 1, to: 1, protocol: 'postgres', message: 'cancel' },
    ]);
    link.receive({ kind: 'dealtWith', id: 1 });
    await telling;
    link.receive({ kind: 'told', id: 7, protocol: 'postgres', message: 'theirs' });
    link.receive({ kind: 'told', id: 8, protocol: 'ssh', message: 'for nobody' });
    await new Promise(setImmediate);
    assert.deepEqual(told, ['theirs']);
    const answers = sent.flatMap((one) => (one.kind === 'dealtWith' ? [one.id] : []));
    assert.deepEqual(answers.sort(), [7, 8]);
  });

  it('follows snapshots, the level of the log and the end of the gateway', () => {
    const message = create(SnapshotSchema, { revision: 3n, backends: [{ name: 'orders-db' }] });
    link.receive({ kind: 'snapshot', snapshot: toBinary(SnapshotSchema, message) });
    assert.equal(link.snapshot.value.revision, 3n);
    assert.ok(link.snapshot.value.backends.has('orders-db'));
    link.receive({ kind: 'ping', level: 'debug' });
    assert.deepEqual([levels, kinds()], [['debug'], ['pong']]);
    link.receive({ kind: 'stop' });
    assert.ok(link.stopping.aborted);
    assert.equal(link.heard, 3);
  });
});
