import { get } from 'node:http';
import { systemClock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { Child, type ChildOptions } from './child.ts';

export interface SupervisedOptions {
  readonly child: ChildOptions;
  /** Base URL of its health endpoint. */
  readonly health: string;
  /** Told when it ended by itself and when it is there again. */
  say(line: string): void;
  /** What it needs before it is started again. */
  prepare?(): Promise<void>;
  /** Told after each start with the new process id. */
  started?(): Promise<void>;
}

const READY_MS = 20_000;
const MAXIMUM_RESTARTS = 5;
const RESTART_WINDOW_MS = 60_000;

/** A process of ours under `writ up`: ready when its health endpoint says so, started again when it dies. */
export class Supervised {
  readonly #options: SupervisedOptions;
  readonly #stopping = new AbortController();
  readonly #restarts: number[] = [];
  #child: Child;
  #fail: (reason: Fault) => void = () => undefined;
  /** Rejects when it dies for good; never resolves. */
  readonly lost: Promise<never>;

  private constructor(options: SupervisedOptions) {
    this.#options = options;
    this.#child = new Child(options.child);
    this.lost = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.lost.catch(() => undefined);
  }

  /** @throws Fault STATE_UNUSABLE with its last words if it ends before it is ready */
  static async start(options: SupervisedOptions, signal: AbortSignal): Promise<Supervised> {
    const supervised = new Supervised(options);
    try {
      await supervised.#untilReady(signal);
    } catch (error) {
      await supervised.stop();
      throw error;
    }
    void supervised.#watch();
    return supervised;
  }

  get pid(): number {
    return this.#child.pid;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#child.stop();
  }

  kill(): void {
    this.#stopping.abort();
    this.#child.kill();
  }

  async #watch(): Promise<void> {
    const { say, prepare, started } = this.#options;
    for (;;) {
      await this.#child.gone;
      if (this.#stopping.signal.aborted) return;
      const { message } = this.#child.epitaph();
      if (!this.#mayRestart()) {
        this.#fail(
          new Fault('STATE_UNUSABLE', `${message} (given up after ${MAXIMUM_RESTARTS} restarts)`),
        );
        return;
      }
      say(`${message}; starting it again`);
      try {
        await prepare?.();
        if (this.#stopping.signal.aborted) return;
        this.#child = new Child(this.#options.child);
        await this.#untilReady(this.#stopping.signal);
        await started?.();
        say(`${this.#child.name} is back`);
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        if (this.#child.running) {
          this.#fail(Fault.from(error));
          return;
        }
      }
    }
  }

  #mayRestart(): boolean {
    const now = systemClock.monotonicMs();
    while (this.#restarts.length > 0 && (this.#restarts[0] ?? 0) < now - RESTART_WINDOW_MS) {
      this.#restarts.shift();
    }
    return this.#restarts.push(now) <= MAXIMUM_RESTARTS;
  }

  async #untilReady(signal: AbortSignal): Promise<void> {
    const end = systemClock.monotonicMs() + READY_MS;
    let last = 'no answer';
    while (systemClock.monotonicMs() < end) {
      if (!this.#child.running) throw this.#child.epitaph();
      last = await readiness(this.#options.health);
      if (last === 'ready') return;
      await systemClock.wait(40, signal);
    }
    const seconds = READY_MS / 1000;
    throw new Fault(
      'STATE_UNUSABLE',
      `${this.#child.name} is not ready after ${seconds} s: ${last}`,
    );
  }
}

/** `ready`, or why not in its own words. */
function readiness(health: string): Promise<string> {
  return new Promise((resolve) => {
    const request = get(`${health}/ready`, { timeout: 1000, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8').trim();
        resolve(response.statusCode === 200 ? 'ready' : text.slice(0, 200));
      });
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve('no answer'));
  });
}
