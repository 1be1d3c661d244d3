import assert from 'node:assert/strict';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { CountedEvents } from './counted-events.ts';
import type { EventInit } from './event-spool.ts';

describe('CountedEvents', () => {
  let clock: FakeClock;
  let written: EventInit[];
  let counted: CountedEvents;
  beforeEach(() => {
    clock = new FakeClock();
    written = [];
    counted = new CountedEvents({ append: (event) => written.push(event) }, clock);
  });
  const summary = () => written.map(({ reason, attributes }) => [reason, attributes?.count]);

  it('writes the first of a kind at once and the rest of its minute as one, with a count', async () => {
    for (let n = 0; n < 1000; n += 1) counted.add('a', { reason: 'no certificate' });
    counted.add('b', { reason: 'expired' });
    assert.deepEqual(summary(), [
      ['no certificate', '1'],
      ['expired', '1'],
    ]);
    await clock.advance(60_000);
    counted.tick();
    assert.deepEqual(summary().slice(2), [['no certificate', '999']]);
    counted.add('b', { reason: 'expired' });
    assert.equal(written.length, 4);
  });

  it('counts all kinds beyond a thousand together', () => {
    for (let n = 0; n < 5000; n += 1) counted.add(`address ${n}`, {});
    assert.equal(written.length, 1001);
    counted.flush();
    assert.equal(written.at(-1)?.type, 'refusals.overflow');
    assert.equal(written.at(-1)?.attributes?.count, '3999');
  });
});
