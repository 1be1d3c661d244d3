import assert from 'node:assert/strict';
import { setImmediate as breathe, setTimeout as sleep } from 'node:timers/promises';
import { UserTurns } from './user-turns.ts';

const [ANA, BRUNO] = [4_000_000, 4_000_001];

describe('UserTurns', () => {
  /** Work that ends when it is told to. */
  const setUp = () => {
    const turns = new UserTurns(2);
    const begun: string[] = [];
    const ends = new Map<string, () => void>();
    const run = (uid: number, name: string) =>
      turns.run(uid, async () => {
        begun.push(name);
        await new Promise<void>((resolve) => ends.set(name, resolve));
        return name;
      });
    return { turns, begun, run, end: (name: string) => ends.get(name)?.() };
  };

  it('runs so many of one user at a time, the others in their order, whatever other users do', async () => {
    const { begun, run, end } = setUp();
    const all = ['a1', 'a2', 'a3', 'a4'].map((name) => run(ANA, name));
    all.push(run(BRUNO, 'b1'));
    await sleep(20);
    assert.deepEqual([...begun].sort(), ['a1', 'a2', 'b1']);
    end('a2');
    await sleep(20);
    assert.deepEqual(begun.slice(3), ['a3']);
    end('a1');
    await sleep(20);
    assert.deepEqual(begun.slice(3), ['a3', 'a4']);
    for (const name of ['a3', 'a4', 'b1']) end(name);
    assert.deepEqual(await Promise.all(all), ['a1', 'a2', 'a3', 'a4', 'b1']);
  });

  it('gives the place of work that fails to the next', async () => {
    const { turns } = setUp();
    const work = async () => {
      throw new Error('no');
    };
    const failures = Array.from({ length: 5 }, () => turns.run(ANA, work));
    for (const failure of failures) await assert.rejects(failure, { message: 'no' });
    assert.equal(await turns.run(ANA, async () => 1), 1);
  });

  it('lets the process do something else between two requests, however short they are', async () => {
    const turns = new UserTurns(8);
    let passed = 0;
    let isOver = false;
    const counting = (async () => {
      for (; !isOver; passed += 1) await breathe();
    })();
    for (let n = 0; n < 100; n += 1) await turns.run(ANA, async () => undefined);
    isOver = true;
    await counting;
    assert.ok(passed >= 99, `${passed}`);
  });

  it('turns away what is too many to wait, of that user alone', async () => {
    const { run, end } = setUp();
    const waiting = Array.from({ length: 2 + 1024 }, (_, at) => run(ANA, `${at}`));
    await assert.rejects(run(ANA, 'more'), { code: 'UNAVAILABLE' });
    const other = run(BRUNO, 'other');
    await sleep(20);
    end('other');
    assert.equal(await other, 'other');
    for (const [at, one] of waiting.entries()) {
      // Each that ends lets the next begin, which then can be ended.
      while ((await Promise.race([one, breathe()])) === undefined) end(`${at}`);
    }
  });
});
