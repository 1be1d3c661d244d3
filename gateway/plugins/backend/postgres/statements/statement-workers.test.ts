import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Fault } from '../../../../../runtime/fault.ts';
import type { LongStatement } from './long-statement.ts';
import { StatementWorkers, type StatementWorkersOptions } from './statement-workers.ts';

const statement = (sql: string): LongStatement => ({
  text: Buffer.from(sql),
  classified: [],
  hmacKey: Buffer.alloc(32),
  forMasks: false,
});

/** A thread that does what the text says, in place of reading it. */
const OBEDIENT = new URL(
  `data:text/javascript,${encodeURIComponent(`
    import { parentPort } from 'node:worker_threads';
    parentPort.on('message', ({ text }) => {
      const said = Buffer.from(text).toString();
      if (said === 'throw') throw new Error('as told');
      if (said === 'exit') process.exit(3);
      if (said === 'fill') for (const all = []; ; ) all.push(new Array(1e6).fill({}));
      if (said === 'hang') for (;;) ;
      parentPort.postMessage(said);
    });
    parentPort.postMessage('ready');`)}`,
);

describe('StatementWorkers', function () {
  this.timeout(120_000);
  let workers: StatementWorkers;
  const start = (options: StatementWorkersOptions = {}) => {
    workers = new StatementWorkers(options);
  };
  const ask = (said: string, signal = new AbortController().signal) =>
    workers.read(statement(said), signal);
  afterEach(() => workers[Symbol.asyncDispose]());

  it('reads in a thread', async () => {
    start({ deadlineMs: 100_000 });
    const [one, other] = await Promise.all([
      ask(`select * from orders where id in (${'1,'.repeat(50_000)}1)`),
      ask('drop table orders; selct'),
    ]);
    assert.deepEqual([one.class, [...one.relations]], ['read', ['orders']]);
    assert.equal(other.syntaxError, 'syntax error at or near "selct"');
  });

  it('answers all, each with its own', async () => {
    start({ entry: OBEDIENT });
    const said = Array.from({ length: 50 }, (_, n) => String(n));
    assert.deepEqual(await Promise.all(said.map((one) => ask(one))), said);
  });

  for (const end of ['throw', 'exit', 'fill']) {
    it(`refuses what ends its thread (${end}), and reads on`, async () => {
      start({ entry: OBEDIENT, deadlineMs: 100_000, heapMegabytes: 32 });
      await assert.rejects(ask(end), { code: 'UNAVAILABLE', message: 'reading it failed' });
      assert.equal(await ask('next'), 'next');
    });
  }

  it('refuses what takes longer than its deadline, and reads on', async () => {
    start({ entry: OBEDIENT, deadlineMs: 50 });
    const late = { code: 'RESOURCE_EXHAUSTED', message: 'reading it took longer than 0.05 s' };
    await Promise.all(Array.from({ length: 5 }, () => assert.rejects(ask('hang'), late)));
    await workers[Symbol.asyncDispose]();
    start({ entry: OBEDIENT });
    assert.equal(await ask('next'), 'next');
  });

  it('ends what nobody waits for any more, whether it has begun or not', async () => {
    start({ entry: OBEDIENT });
    const gone = new AbortController();
    const asked = Array.from({ length: 6 }, () =>
      assert.rejects(ask('hang', gone.signal), { code: 'UNAVAILABLE', message: 'gone' }),
    );
    await sleep(1);
    const next = ask('next');
    gone.abort(new Fault('UNAVAILABLE', 'gone'));
    await Promise.all(asked);
    assert.equal(await next, 'next');
  });

  it('refuses more than may wait', async () => {
    start({ entry: OBEDIENT, mostWaiting: 3 });
    const gone = new AbortController();
    const busy = Array.from({ length: 5 }, () => assert.rejects(ask('hang', gone.signal)));
    await assert.rejects(ask('one more'), { code: 'RESOURCE_EXHAUSTED' });
    gone.abort(new Fault('UNAVAILABLE', 'gone'));
    await Promise.all(busy);
  });

  it('refuses all when it ends', async () => {
    start({ entry: OBEDIENT });
    const stopping = { code: 'UNAVAILABLE', message: 'the gateway is stopping' };
    const asked = Array.from({ length: 4 }, () => assert.rejects(ask('hang'), stopping));
    await workers[Symbol.asyncDispose]();
    await Promise.all(asked);
    await assert.rejects(ask('next'), stopping);
  });
});
