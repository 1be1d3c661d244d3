import { Backoff } from '../runtime/backoff.ts';
import { systemClock } from '../runtime/clock.ts';
import { RpcError } from '../runtime/grpc-client.ts';

const RETRY = { firstMs: 50, maximumMs: 500 } as const;
/** A new entry is with the agent in a second. */
const PATIENCE_MS = 5000;

/** Asks the agent again while it knows no identity for this process, which may be a moment away. */
export async function patiently<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const endMs = systemClock.monotonicMs() + PATIENCE_MS;
  const backoff = new Backoff(RETRY);
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const isEarly = error instanceof RpcError && error.status === 'PERMISSION_DENIED';
      if (!isEarly || systemClock.monotonicMs() > endMs) throw error;
    }
    await systemClock.wait(backoff.next(), signal);
  }
}
