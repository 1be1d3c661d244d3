import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { Watched, type WatchedSource } from '../../../runtime/watched.ts';
import { showPresence } from './postgres-schema.ts';

const RETRY_MS = 500;

/** Hears of the commits of other servers, over a connection of its own that it opens again when lost. */
export class CommitListener implements AsyncDisposable {
  readonly #config: pg.ClientConfig;
  readonly #origin: string;
  readonly #count = new Watched(0);
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  /** @param origin what this server's own commits say */
  constructor(config: pg.ClientConfig, origin: string) {
    this.#config = config;
    this.#origin = origin;
    this.#running = this.#run();
  }

  get count(): WatchedSource<number> {
    return this.#count;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#listen(signal).catch(() => undefined);
      await sleep(RETRY_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Until the connection ends. */
  async #listen(signal: AbortSignal): Promise<void> {
    const client = new pg.Client(this.#config);
    let end: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    client.on('error', end).on('end', end);
    signal.addEventListener('abort', end);
    client.on('notification', ({ payload }) => {
      if (payload !== this.#origin) this.#advance();
    });
    try {
      await client.connect();
      await showPresence(client);
      await client.query('listen writ_commit');
      // What was committed while nobody listened is told of by nobody.
      this.#advance();
      await ended;
    } finally {
      signal.removeEventListener('abort', end);
      await client.end().catch(() => undefined);
    }
  }

  #advance(): void {
    this.#count.set(this.#count.value + 1);
  }
}
