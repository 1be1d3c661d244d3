import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  EventSchema,
  type SealedEvent,
  SealedEventSchema,
} from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { nextHead } from './audit-verify.ts';

const START = { seq: 0n, hash: Buffer.alloc(32) };

describe('nextHead', () => {
  const sealed = (seq: bigint, previous: Uint8Array, type: string): SealedEvent => {
    const body = toBinary(EventSchema, create(EventSchema, { seq, type }));
    const leaf = createHash('sha256').update(Buffer.of(0)).update(body).digest();
    const hash = createHash('sha256').update(Buffer.of(1)).update(previous).update(leaf).digest();
    return create(SealedEventSchema, { body, previousHash: previous, hash });
  };
  const first = sealed(1n, START.hash, 'a');
  const second = sealed(2n, first.hash, 'b');

  it('follows an unbroken chain', () => {
    const head = nextHead(nextHead(START, first), second);
    assert.deepEqual([head.seq, head.hash], [2n, Buffer.from(second.hash)]);
  });

  const changes: readonly [string, SealedEvent, RegExp][] = [
    ['a changed body', { ...first, body: sealed(1n, START.hash, 'x').body }, /event 1: its hash/],
    [
      'another previous hash',
      { ...first, previousHash: Buffer.alloc(32, 1) },
      /event 1: its previous/,
    ],
    ['a changed hash', { ...first, hash: Buffer.alloc(32) }, /event 1: its hash/],
    ['a left out event', second, /event 1: event 2 stands in its place/],
  ];
  for (const [what, event, message] of changes) {
    it(`finds ${what}`, () => {
      assert.throws(() => nextHead(START, event), { code: 'FAILED_PRECONDITION', message });
    });
  }
});
