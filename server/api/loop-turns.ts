import { setImmediate as breathe } from 'node:timers/promises';

/**
 * Spreads heavy work of many calls: one step in each turn of the event loop, so that fifty agents that
 * sync at once keep nobody else waiting. (`setImmediate` alone lets all fifty into the same turn.)
 */
export class LoopTurns {
  #last: Promise<unknown> = Promise.resolve();

  /** Resolves in a turn that no other caller has. */
  next(): Promise<void> {
    const turn = this.#last.then(() => breathe());
    this.#last = turn;
    return turn;
  }
}
