import assert from 'node:assert/strict';
import { FakeClock } from '../test/fakes/fake-clock.ts';
import { repeatProof } from './repeat-proof.ts';

describe('repeatProof', () => {
  let clock: FakeClock;
  let stop: AbortController;
  let drifted: string[];
  let failing: boolean;
  let rounds: string[];
  let failures: number;
  let running: Promise<void>;

  beforeEach(() => {
    clock = new FakeClock(new Date());
    stop = new AbortController();
    [drifted, failing, rounds, failures] = [[], false, [], 0];
    running = repeatProof({
      everySeconds: 100,
      clock,
      signal: stop.signal,
      prove: async (why) => {
        if (failing) throw new Error('down');
        rounds.push(why);
      },
      drift: async () => [...drifted],
      failed: () => {
        failures += 1;
      },
    });
  });
  afterEach(async () => {
    stop.abort();
    await running;
  });

  /** The clock lets all run that waits for no time before each of its steps. */
  const pass = (seconds: number) => clock.advance(seconds * 1000 + 100);

  it('proves at once and at each interval', async () => {
    await pass(0);
    assert.deepEqual(rounds, ['at the start']);
    await pass(90);
    assert.equal(rounds.length, 1);
    await pass(30);
    assert.deepEqual(rounds.slice(1), ['after 100 s']);
  });

  it('proves soon after something has drifted, once for each thing', async () => {
    await pass(0);
    drifted = ['new-column public.customers.passport'];
    await pass(30);
    assert.match(rounds[1] ?? '', /drifted: new-column public\.customers\.passport/);
    await pass(60);
    assert.equal(rounds.length, 2);
    drifted = [...drifted, 'added SELECT of PUBLIC on customers'];
    await pass(30);
    assert.match(rounds[2] ?? '', /drifted: added SELECT of PUBLIC/);
  });

  it('goes on after a round that failed', async () => {
    await pass(0);
    failing = true;
    await pass(130);
    assert.equal(failures, 1);
    failing = false;
    await pass(130);
    assert.equal(rounds.length, 2);
  });

  it('ends when it is told to', async () => {
    await pass(0);
    stop.abort();
    await running;
    assert.equal(rounds.length, 1);
  });
});
