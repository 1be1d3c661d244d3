import { setImmediate as breathe } from 'node:timers/promises';
import { Fault } from '../../runtime/fault.ts';

/** More than one user's sockets let through in good faith. */
const MAXIMUM_WAITING = 1024;

interface Turns {
  running: number;
  /** Who comes next, in the order they came. */
  readonly waiting: (() => void)[];
  /** When the last of them that was let begin has begun. */
  begun: Promise<unknown>;
}

/**
 * Runs a few of one user's requests at a time, and begins one of them in each turn of the event loop, so
 * that who asks without end shares the process with everybody else.
 */
export class UserTurns {
  readonly #maximum: number;
  readonly #users = new Map<number, Turns>();

  /** @param maximum of one user, root too */
  constructor(maximum: number) {
    this.#maximum = maximum;
  }

  /** @throws Fault UNAVAILABLE if too many of the user's wait; what `work` throws */
  async run<T>(uid: number, work: () => Promise<T>): Promise<T> {
    const turns = this.#users.get(uid) ?? newTurns();
    this.#users.set(uid, turns);
    await this.#enter(turns);
    try {
      turns.begun = turns.begun.then(() => breathe());
      await turns.begun;
      return await work();
    } finally {
      // Whoever waits takes the place over, so that nobody slips in between.
      const next = turns.waiting.shift();
      if (next === undefined) turns.running -= 1;
      else next();
      if (turns.running === 0) this.#users.delete(uid);
    }
  }

  async #enter(turns: Turns): Promise<void> {
    if (turns.running < this.#maximum) {
      turns.running += 1;
      return;
    }
    if (turns.waiting.length >= MAXIMUM_WAITING) {
      throw new Fault('UNAVAILABLE', 'too many requests of one user');
    }
    await new Promise<void>((resolve) => turns.waiting.push(resolve));
  }
}

function newTurns(): Turns {
  return { running: 0, waiting: [], begun: Promise.resolve() };
}
