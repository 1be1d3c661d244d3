import assert from 'node:assert/strict';
import { FakeClock } from '../../../../test/fakes/fake-clock.ts';
import { endOnTarget } from './end-on-target.ts';
import type { ExitStatus } from './ssh2-session-values.ts';

describe('endOnTarget', () => {
  let clock: FakeClock;
  let told: string[];
  let exit: () => void;
  let target: Parameters<typeof endOnTarget>[0];
  beforeEach(() => {
    clock = new FakeClock();
    told = [];
    const exited = new Promise<ExitStatus>((resolve) => {
      exit = () => resolve({ code: 0 });
    });
    target = {
      exit: exited,
      signal: (name) => told.push(name),
      close: () => told.push('close'),
    };
  });

  it('sends nothing to what has ended', async () => {
    exit();
    await endOnTarget(target, clock);
    assert.deepEqual(told, ['close']);
  });

  it('kills nothing that goes when it is told to', async () => {
    const ended = endOnTarget(target, clock);
    await clock.advance(50);
    exit();
    await ended;
    assert.deepEqual(told, ['HUP', 'close']);
  });

  it('kills what does not, and closes whatever it does then', async () => {
    const ended = endOnTarget(target, clock);
    await clock.advance(50);
    assert.deepEqual(told, ['HUP']);
    await clock.advance(200);
    await ended;
    assert.deepEqual(told, ['HUP', 'KILL', 'close']);
  });
});
