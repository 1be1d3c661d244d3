import type { Clock } from '../runtime/clock.ts';
import type { Closers } from '../runtime/closers.ts';
import type { Logger } from '../runtime/log.ts';
import type { Watched, WatchedSource } from '../runtime/watched.ts';
import type { ClockGuard } from './clock-guard.ts';
import type { ServerConfig } from './config.ts';
import type { ServerMetrics } from './metrics.ts';
import type { Datastore } from './plugins/datastore/datastore.ts';
import type { StoreFollower } from './store-follower.ts';

/** What the parts of a running server share. */
export interface Context {
  readonly config: ServerConfig;
  readonly store: Datastore;
  readonly follower: StoreFollower;
  readonly clockGuard: ClockGuard;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: ServerMetrics;
  readonly closers: Closers;
  readonly serving: Watched<boolean>;
  readonly configuredLevel: () => string;
}

/** Takes over a part's end. */
export function own<T extends AsyncDisposable>(closers: Closers, part: T): T {
  closers.defer(async () => await part[Symbol.asyncDispose]());
  return part;
}

/** Shows each value of a source until the returned function is called. */
export function follow<T>(source: WatchedSource<T>, show: (value: T) => void): () => Promise<void> {
  const stop = new AbortController();
  const following = (async () => {
    for await (const value of source.values(stop.signal)) show(value);
  })();
  return async () => {
    stop.abort();
    await following;
  };
}
