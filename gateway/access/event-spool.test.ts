import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { EventSpool } from './event-spool.ts';

describe('EventSpool', () => {
  let directory: string;
  let spools: EventSpool[];
  beforeEach(async () => {
    directory = join(await mkdtemp(join(tmpdir(), 'writ-spool-')), 'events');
    spools = [];
  });
  afterEach(async () => {
    for (const spool of spools) spool[Symbol.dispose]();
    await rm(join(directory, '..'), { recursive: true });
  });

  const open = (limits?: { fileBytes: number; totalBytes: number }) => {
    const clock = new FakeClock();
    const spool = EventSpool.open({
      directory,
      clock,
      ...(limits === undefined ? {} : { limits }),
    });
    spools.push(spool);
    return spool;
  };
  const pending = (spool: EventSpool) =>
    spool.after(0n, 1000).map(({ writerSeq, type }) => [writerSeq, type]);

  it('numbers events from 1 without gaps and gives them the time', () => {
    const spool = open();
    spool.append({ type: 'a' });
    spool.append({ type: 'b' });
    assert.deepEqual(pending(spool), [
      [1n, 'a'],
      [2n, 'b'],
    ]);
    assert.equal(spool.after(0n, 1)[0]?.at?.seconds, 1_772_366_400n);
    assert.deepEqual(
      spool.after(1n, 10).map(({ type }) => type),
      ['b'],
    );
  });

  it('keeps what the server has not accepted over a restart, and goes on counting', () => {
    const before = open();
    for (const type of ['a', 'b', 'c']) before.append({ type });
    before.after(0n, 10);
    const spool = open();
    spool.append({ type: 'd' });
    assert.deepEqual(
      pending(spool).map(([seq]) => seq),
      [1n, 2n, 3n, 4n],
    );
    spool.accepted(3n);
    assert.deepEqual(pending(spool), [[4n, 'd']]);
  });

  it('never gives a number away twice, though all its events were accepted and dropped', async () => {
    const before = open({ fileBytes: 1, totalBytes: 10_000 });
    for (const type of ['a', 'b', 'c']) before.append({ type });
    before.accepted(3n);
    assert.equal((await readdir(directory)).length, 1);
    const spool = open();
    spool.append({ type: 'd' });
    assert.equal(pending(spool).at(-1)?.[0], 4n);
  });

  it('drops a torn last event and nothing before it', async () => {
    const before = open();
    before.append({ type: 'a' });
    before.after(0n, 10);
    const [name = ''] = await readdir(directory);
    await appendFile(join(directory, name), Buffer.from([0, 0, 0, 50, 1, 2]));
    const spool = open();
    spool.append({ type: 'b' });
    assert.deepEqual(pending(spool), [
      [1n, 'a'],
      [2n, 'b'],
    ]);
  });

  it('refuses events once it is full, until the server has taken some', () => {
    const spool = open({ fileBytes: 50, totalBytes: 200 });
    let count = 0n;
    assert.throws(
      () => {
        for (;;) {
          spool.append({ type: 'x'.repeat(30) });
          count += 1n;
        }
      },
      { code: 'AUDIT_UNWRITABLE' },
    );
    assert.ok(count > 2n && count < 10n, String(count));
    spool.accepted(count);
    spool.append({ type: 'y' });
    assert.deepEqual(pending(spool), [[count + 1n, 'y']]);
  });

  it('numbers anew what is pending when the server knows of more than was ever written', () => {
    const spool = open();
    for (const type of ['a', 'b']) spool.append({ type });
    assert.equal(spool.accepted(1n), false);
    assert.equal(spool.accepted(500n), true);
    assert.deepEqual(pending(spool), [[501n, 'b']]);
    const after = open();
    assert.deepEqual(pending(after), [[501n, 'b']]);
  });
});
