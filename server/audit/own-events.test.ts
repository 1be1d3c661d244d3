import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { create, type DescMessage, fromBinary, type Message } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { ActorSchema, EventSchema, Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { OwnEvents } from './own-events.ts';

const AT = new Date('2026-01-02T03:04:05.678Z');
const POSITION = { seq: 2n ** 40n, writerSeq: 3n };
const ACTOR = {
  ...{ kind: 'operator', spiffeId: 'spiffe://example.org/a', address: '127.0.0.1:9' },
  ...{ pid: 77, uid: 4_000_000_000, executable: '/bin/Überprüfung' },
};
const EVENT = {
  ...{ type: 'a.b', outcome: Outcome.DENIED, actor: ACTOR, sessionId: 's', grant: 'g' },
  ...{ backend: 'b', spiffeId: 'spiffe://example.org/w', svidSerial: '0a', agentId: 'ag' },
  ...{ entryId: 'e', reason: 'r'.repeat(300), attributes: { one: '1', empty: '' } },
};
const STAMP = { writer: 'server', at: timestampFromDate(AT), ...POSITION };

function decoded(bytes: Uint8Array) {
  assert.equal(bytes[0], 9);
  return fromBinary(EventSchema, bytes.subarray(1));
}

function unset(schema: DescMessage, message: Message): string[] {
  const values = message as unknown as Record<string, unknown>;
  const empty = create(schema) as unknown as Record<string, unknown>;
  const names = schema.fields.map(({ localName }) => localName);
  return names.filter((name) => isDeepStrictEqual(values[name], empty[name]));
}

describe('events of this server', () => {
  it('are encoded with every field that an event has', () => {
    const whole = create(EventSchema, { ...EVENT, ...STAMP });
    assert.deepEqual(unset(EventSchema, whole), []);
    assert.deepEqual(unset(ActorSchema, whole.actor ?? create(ActorSchema)), []);
    const events = new OwnEvents({ writer: 'server', at: AT });
    assert.deepEqual(decoded(events.encode(9, EVENT, POSITION)), whole);
    assert.deepEqual(decoded(events.encode(9, EVENT, POSITION)), whole, 'again, from what is kept');
  });

  it('keep apart what differs: actor, attributes, the id of the request', () => {
    const events = new OwnEvents({ writer: 'server', at: AT });
    const other = { type: 'c.d', attributes: { two: '2' }, actor: { kind: 'server' } };
    const none = { type: 'e.f' };
    const called = { ...EVENT, actor: { ...ACTOR, requestId: 'q1' } };
    for (const event of [EVENT, other, none, EVENT])
      assert.deepEqual(
        decoded(events.encode(9, event, POSITION)),
        create(EventSchema, { ...event, ...STAMP }),
      );
    assert.deepEqual(decoded(events.encode(9, called, POSITION)).attributes, {
      ...EVENT.attributes,
      request_id: 'q1',
    });
  });
});
