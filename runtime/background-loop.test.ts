import assert from 'node:assert/strict';
import { FakeClock } from '../test/fakes/fake-clock.ts';
import { BackgroundLoop } from './background-loop.ts';
import { createLogger } from './log.ts';

describe('BackgroundLoop', () => {
  const open = (turn: (signal: AbortSignal) => Promise<number>) => {
    const clock = new FakeClock();
    const log = createLogger({ process: 'server', level: 'silent' });
    const loop = new BackgroundLoop({
      turn,
      clock,
      log,
      failure: 'it failed',
      retryMs: () => 2000,
    });
    return { clock, loop };
  };

  it('turns at once, then each time that its last turn has said', async () => {
    let turns = 0;
    const { clock, loop } = open(async () => {
      turns += 1;
      return turns * 1000;
    });
    await using _ = loop;
    await clock.advance(50);
    assert.equal(turns, 1);
    await clock.advance(1000);
    assert.equal(turns, 2);
    await clock.advance(1000);
    assert.equal(turns, 2);
    await clock.advance(1000);
    assert.equal(turns, 3);
  });

  it('turns again after a failure, when it is time', async () => {
    let turns = 0;
    const { clock, loop } = open(async () => {
      turns += 1;
      throw new Error('away');
    });
    await using _ = loop;
    await clock.advance(1000);
    assert.equal(turns, 1);
    await clock.advance(1100);
    assert.equal(turns, 2);
  });

  it('ends with the turn that is under way, which hears of it', async () => {
    let ended = false;
    const { loop } = open(
      (signal) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            ended = true;
            resolve(0);
          });
        }),
    );
    await loop[Symbol.asyncDispose]();
    await loop[Symbol.asyncDispose]();
    assert.ok(ended);
  });
});
