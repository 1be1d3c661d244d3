import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';

const calls = new AsyncLocalStorage<string>();

/** Runs the work of one call under an id of its own, which nobody outside chooses. */
export function withRequestId<T>(work: () => T): T {
  return calls.run(`r_${randomBytes(16).toString('hex')}`, work);
}

/** The id of the call that this is done for; undefined for what a process does by itself. */
export function requestId(): string | undefined {
  return calls.getStore();
}
