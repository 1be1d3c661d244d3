import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { create, fromBinary } from '@bufbuild/protobuf';
import { timestampDate, timestampFromDate } from '@bufbuild/protobuf/wkt';
import { EventSchema, type SealedEvent } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { systemClock } from '../../runtime/clock.ts';
import { onEachStore } from '../../test/fixtures/each-store.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import { AuditLog } from './audit-log.ts';

const NOW = new Date('2026-01-01T00:00:00Z');
const CLOCK: Clock = { ...systemClock, now: () => NOW };
const GATEWAY = 'spiffe://example.org/writ/gateway/a';

onEachStore('AuditLog', (fresh) => {
  let store: Datastore;
  let log: AuditLog;
  beforeEach(async () => {
    store = await fresh().open();
    log = new AuditLog(store, CLOCK);
  });
  afterEach(() => store[Symbol.asyncDispose]());

  const append = (...types: string[]) =>
    store.transaction((tx) => log.append(tx, ...types.map((type) => ({ type }))));
  const appendFrom = (...seqs: number[]) =>
    store.transaction((tx) =>
      log.appendFrom(
        tx,
        GATEWAY,
        seqs.map((seq) =>
          create(EventSchema, {
            type: 'session.denied',
            writer: 'server',
            seq: 99n,
            writerSeq: BigInt(seq),
            at: timestampFromDate(new Date(0)),
          }),
        ),
      ),
    );
  const events = async () =>
    (await log.read({ afterSeq: 0n, limit: 1000 })).map(({ body }) =>
      fromBinary(EventSchema, body),
    );

  it('numbers events from 1 without gaps, also after a rollback', async () => {
    await append('a.b');
    const broken = store.transaction(async (tx) => {
      await log.append(tx, { type: 'x.y' });
      throw new Error('no');
    });
    await assert.rejects(broken);
    await append('c.d', 'e.f');
    assert.deepEqual(
      (await events()).map(({ seq, writerSeq, type }) => [seq, writerSeq, type]),
      [
        [1n, 1n, 'a.b'],
        [2n, 2n, 'c.d'],
        [3n, 3n, 'e.f'],
      ],
    );
    assert.equal(log.head.value, 3n);
  });

  it('chains each event to the one before, from 32 zero bytes on', async () => {
    await append('a.b', 'c.d', 'e.f');
    let previous: Buffer = Buffer.alloc(32);
    for (const sealed of await log.read({ afterSeq: 0n, limit: 10 })) {
      assert.deepEqual(Buffer.from(sealed.previousHash), previous);
      previous = chained(sealed);
      assert.deepEqual(Buffer.from(sealed.hash), previous);
    }
  });

  it('reads from a position, with the hash before', async () => {
    await append('a.b', 'c.d', 'e.f');
    const all = await log.read({ afterSeq: 0n, limit: 10 });
    assert.deepEqual(await log.read({ afterSeq: 1n, limit: 1 }), all.slice(1, 2));
    assert.deepEqual(await log.read({ afterSeq: 3n, limit: 10 }), []);
  });

  it('takes the head over from the store', async () => {
    await append('a.b', 'c.d');
    const later = new AuditLog(store, CLOCK);
    await later.load();
    assert.equal(later.head.value, 2n);
  });

  it('refuses an event type that is no dotted name', async () => {
    await assert.rejects(append('NotAType'), { code: 'INVALID_ARGUMENT' });
  });

  describe('appendFrom', () => {
    it('takes each event of a writer once, however often it is sent', async () => {
      assert.equal(await appendFrom(1, 2), 2n);
      assert.equal(await appendFrom(1, 2, 3), 3n);
      assert.equal(await appendFrom(2), 3n);
      assert.deepEqual(
        (await events()).map(({ writerSeq }) => writerSeq),
        [1n, 2n, 3n],
      );
    });

    it('stamps writer, position and time itself', async () => {
      await appendFrom(1);
      const [event] = await events();
      assert.deepEqual([event?.writer, event?.seq], [GATEWAY, 1n]);
      assert.deepEqual(event?.at && timestampDate(event.at), NOW);
      assert.equal(event?.attributes.writer_time, '1970-01-01T00:00:00.000Z');
    });

    it("turns a gap in the writer's count into an event", async () => {
      assert.equal(await appendFrom(1, 4), 4n);
      const [, gap, after] = await events();
      assert.deepEqual([gap?.type, gap?.writer], ['audit.gap', 'server']);
      assert.deepEqual(gap?.attributes, { first_missing: '2', last_missing: '3' });
      assert.equal(after?.writerSeq, 4n);
    });
  });
});

function chained({ body, previousHash }: SealedEvent): Buffer {
  const leaf = createHash('sha256').update(Buffer.of(0)).update(body).digest();
  return createHash('sha256').update(Buffer.of(1)).update(previousHash).update(leaf).digest();
}
