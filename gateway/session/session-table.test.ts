import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  RevocationSchema,
  type SubjectSchema,
} from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { BackendSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { EndCause } from '../metrics.ts';
import { type LiveSession, type SessionSubjects, SessionTable } from './session-table.ts';

type Ended = { readonly session: LiveSession; readonly ends: [Fault, EndCause][] };

function sessionOf(subjects: Partial<SessionSubjects> = {}): Ended {
  const ends: [Fault, EndCause][] = [];
  const session = {
    subjects: {
      sessionId: 's_1',
      grant: 'read',
      entryId: 'entry-1',
      spiffeId: 'spiffe://example.org/web',
      agentId: 'spiffe://example.org/spire/agent/a',
      serial: '0a',
      backend: 'orders-db',
      ...subjects,
    },
    backend: create(BackendSchema, { name: 'orders-db' }),
    expiresAt: new Date('2026-03-01T13:00:00Z'),
    deadlineMs: 1,
    hasEnded: false,
    terminate: (fault: Fault, cause: EndCause) => ends.push([fault, cause]),
  };
  return { session, ends };
}

function revocationOf(subject: NonNullable<MessageInitShape<typeof SubjectSchema>['subject']>) {
  const cause = 'session.kill';
  return create(RevocationSchema, { seq: 1n, subject: { subject }, cause, reason: 'it is over' });
}

const ID = 'spiffe://example.org/web';

describe('SessionTable', () => {
  let table: SessionTable;
  beforeEach(() => {
    table = new SessionTable({ total: 4, perIdentity: 2 });
  });

  const subjects: NonNullable<MessageInitShape<typeof SubjectSchema>['subject']>[] = [
    { case: 'sessionId', value: 's_1' },
    { case: 'grant', value: 'read' },
    { case: 'entryId', value: 'entry-1' },
    { case: 'spiffeId', value: ID },
    { case: 'agentId', value: 'spiffe://example.org/spire/agent/a' },
    { case: 'serial', value: '0a' },
    { case: 'backend', value: 'orders-db' },
  ];
  for (const subject of subjects) {
    it(`ends what a revocation names by ${subject.case}, and nothing else`, () => {
      const { session, ends } = sessionOf();
      const other = sessionOf({
        ...{ sessionId: 's_2', grant: 'other', entryId: 'other', spiffeId: 'spiffe://example.org' },
        ...{ agentId: 'other', serial: 'other', backend: 'other' },
      });
      table.beginOpening(ID).admit(session);
      table.beginOpening(ID).admit(other.session);
      assert.equal(table.apply(revocationOf(subject)), 1);
      assert.deepEqual(
        ends.map(([fault, cause]) => [fault.code, fault.message, cause]),
        [['PERMISSION_DENIED', 'it is over', 'revoked']],
      );
      assert.deepEqual(other.ends, []);
    });
  }

  it('admits no session that a revocation named while the server was answering', () => {
    const { session } = sessionOf();
    using opening = table.beginOpening(ID);
    table.apply(revocationOf({ case: 'spiffeId', value: ID }));
    assert.throws(() => opening.admit(session), {
      code: 'PERMISSION_DENIED',
      message: 'it is over',
    });
    assert.deepEqual(table.ids, []);
  });

  it('makes an opening void that a Hello could not list', () => {
    using opening = table.beginOpening(ID);
    table.helloSent();
    assert.equal(opening.isVoid, true);
    opening.restart();
    assert.equal(opening.isVoid, false);
  });

  it('forgets a session that has gone', () => {
    const { session, ends } = sessionOf();
    const remove = table.beginOpening(ID).admit(session);
    remove();
    remove();
    assert.equal(table.apply(revocationOf({ case: 'grant', value: 'read' })), 0);
    assert.deepEqual([table.ids, ends], [[], []]);
  });

  it('bounds the sessions of one identity, those on their way included', () => {
    const remove = table.beginOpening(ID).admit(sessionOf().session);
    const opening = table.beginOpening(ID);
    assert.throws(() => table.beginOpening(ID), { code: 'RESOURCE_EXHAUSTED' });
    opening[Symbol.dispose]();
    opening[Symbol.dispose]();
    table.beginOpening(ID);
    remove();
    table.beginOpening(ID);
    assert.throws(() => table.beginOpening(ID), { code: 'RESOURCE_EXHAUSTED' });
  });

  it('bounds the sessions of all', () => {
    for (const name of ['a', 'b', 'c', 'd']) table.beginOpening(name);
    assert.throws(() => table.beginOpening('e'), { code: 'RESOURCE_EXHAUSTED' });
  });

  it('ends all when it closes, and lets none in after that', async () => {
    const { session, ends } = sessionOf();
    const remove = table.beginOpening(ID).admit(session);
    const opening = table.beginOpening(ID);
    table.close(new Fault('UNAVAILABLE', 'stopping'));
    assert.deepEqual(ends[0]?.[1], 'stopping');
    assert.throws(() => opening.admit(sessionOf().session), { code: 'UNAVAILABLE' });
    assert.throws(() => table.beginOpening(ID), { code: 'UNAVAILABLE' });
    const empty = table.empty();
    remove();
    await empty;
  });
});
