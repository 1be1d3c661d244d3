import assert from 'node:assert/strict';
import { systemClock } from '../runtime/clock.ts';
import { createLogger } from '../runtime/log.ts';
import { Watched } from '../runtime/watched.ts';
import type { Datastore } from './plugins/datastore/datastore.ts';
import { StoreFollower } from './store-follower.ts';

describe('StoreFollower', () => {
  const log = createLogger({ process: 'server', level: 'silent' });
  const follow = (commits: Watched<number> | undefined, clock = systemClock) =>
    new StoreFollower({ store: { foreignCommits: commits } as Datastore, clock, log });

  const nextCall = () => {
    let called: () => void = () => undefined;
    const calls = {
      count: 0,
      next: new Promise<void>((resolve) => {
        called = resolve;
      }),
    };
    const call = async () => {
      calls.count += 1;
      const wake = called;
      calls.next = new Promise<void>((resolve) => {
        called = resolve;
      });
      wake();
    };
    return { calls, call };
  };

  it('catches up at once when another server commits', async () => {
    const commits = new Watched(0);
    const never = {
      ...systemClock,
      wait: (_: number, signal: AbortSignal) => systemClock.wait(1e9, signal),
    };
    await using follower = follow(commits, never);
    const { calls, call } = nextCall();
    follower.add(call);
    const first = calls.next;
    commits.set(1);
    await first;
    const second = calls.next;
    commits.set(2);
    await second;
    assert.ok(calls.count >= 2);
  });

  it('looks twice a second without being told', async () => {
    const waits: number[] = [];
    const quick = {
      ...systemClock,
      wait: (milliseconds: number, signal: AbortSignal) => {
        waits.push(milliseconds);
        return systemClock.wait(1, signal);
      },
    };
    await using follower = follow(new Watched(0), quick);
    const { calls, call } = nextCall();
    follower.add(call);
    for (let n = 0; n < 3; n += 1) await calls.next;
    assert.ok(waits.every((milliseconds) => milliseconds === 500));
  });

  it('goes on after a failure, also of another that it calls', async () => {
    const quick = {
      ...systemClock,
      wait: (_: number, signal: AbortSignal) => systemClock.wait(1, signal),
    };
    await using follower = follow(new Watched(0), quick);
    const { calls, call } = nextCall();
    follower.add(async () => {
      throw new Error('away');
    });
    follower.add(call);
    for (let n = 0; n < 3; n += 1) await calls.next;
    assert.ok(calls.count >= 3);
  });

  it('does nothing where no other server can be', async () => {
    await using follower = follow(undefined);
    follower.add(() => assert.fail('called'));
    await systemClock.wait(5, new AbortController().signal);
  });
});
