/**
 * A gateway that serves its clients from several processes.
 *
 * The primary has what a gateway has once: the stream to the server under one gateway ID, the table of all
 * sessions with their limits, ends and leases, the audit spool, the health endpoint. A worker has what a
 * client costs: TLS, protocol, record, its roles in the backend. A session is admitted by one question to
 * the primary and then runs in its worker alone; whatever ends it comes as one message. So limits hold over
 * all workers without being counted twice, the server sees one gateway, and nothing is asked per statement.
 *
 * Budgets of a day lie in the state directory, with a slot for each worker (session/day-use.ts). A cancel
 * key tells whose it is; the primary hands the request on. Roles bear the worker's index, so that a worker
 * that is started again closes those of its predecessor and nobody else's (`leaseNames`).
 *
 * The primary accepts connections and gives them out in turn to workers that are free: sessions live long,
 * and that shares a pool's connections more evenly than the workers' own race for them, for a tenth of a
 * millisecond of each connection.
 *
 * A worker that dies: the server learns at once that its sessions are over, their records stay without a
 * seal. The primary dies: so do the workers, at once. Either falls silent: the other ends it.
 */
import cluster from 'node:cluster';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { toBinary } from '@bufbuild/protobuf';
import { type Snapshot, SnapshotSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { Backoff } from '../../runtime/backoff.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { HostPort } from '../../runtime/config.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Samples } from '../../runtime/metrics.ts';
import type { GatewayConfig } from '../config.ts';
import type { GatewayControl } from '../control.ts';
import type { GatewayMetrics } from '../metrics.ts';
import { LostSamples } from './lost-samples.ts';
import { WorkerProcess } from './worker-process.ts';

export interface WorkersOptions {
  readonly config: GatewayConfig;
  readonly control: GatewayControl;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Pick<GatewayMetrics, 'workers' | 'workersLost'>;
  /** Names of the metrics that tell how things stand now. */
  readonly gauges: ReadonlySet<string>;
}

const PING_MS = 1000;
const STOP_MS = 5000;
const RETRY = { firstMs: 200, maximumMs: 5000 } as const;
/** One that has served so long has not failed by its start. */
const SETTLED_MS = 30_000;

/** The workers of one gateway. */
export class Workers {
  readonly #options: WorkersOptions;
  /** The newest process of each index. */
  readonly #workers: WorkerProcess[] = [];
  readonly #lost: LostSamples;
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>[] = [];
  #snapshot: Uint8Array | undefined;
  #stopped: Promise<void> | undefined;

  constructor(options: WorkersOptions) {
    this.#options = options;
    this.#lost = new LostSamples(options.gauges);
  }

  /**
   * Resolves with the addresses once all serve, or without any if `signal` aborts before that.
   * @throws Fault what kept one of them from serving; none is left then
   */
  async start(signal: AbortSignal): Promise<ReadonlyMap<string, HostPort>> {
    setUpCluster();
    this.#running.push(this.#pingAll());
    const stop = () => void this.stop();
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    try {
      return await this.#startAll();
    } catch (error) {
      await this.stop();
      if (signal.aborted) return new Map();
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  async #startAll(): Promise<ReadonlyMap<string, HostPort>> {
    const count = this.#options.config.workers;
    // The first makes what all share, as the host key of a protocol.
    const first = this.#fork(0).serving;
    const others = Array.from({ length: count - 1 }, (_, at) => this.#fork(at + 1, first).serving);
    const [listeners] = await Promise.all([first, ...others]);
    for (let index = 0; index < count; index += 1) this.#running.push(this.#keep(index));
    this.#count();
    return listeners;
  }

  /** `true`, or why no client is served. */
  ready(): true | string {
    return this.#workers.some(({ isServing }) => isServing) || 'no worker process serves';
  }

  /** Gives all of them the newest snapshot. */
  snapshot(message: Snapshot): void {
    const snapshot = toBinary(SnapshotSchema, message);
    this.#snapshot = snapshot;
    for (const worker of this.#workers) worker.send({ kind: 'snapshot', snapshot });
  }

  /** Of all that run or ran. */
  samples(): Samples[] {
    return [this.#lost.samples, ...this.#workers.map(({ samples }) => samples)];
  }

  /** Resolves when all are gone, by force after 5 s. Their sessions are to be ended before. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stopNow();
    return this.#stopped;
  }

  async #stopNow(): Promise<void> {
    this.#stopping.abort();
    for (const worker of this.#workers) worker.stop();
    const late = new AbortController();
    const kill = () => {
      for (const worker of this.#workers) worker.kill();
    };
    const timer = this.#options.clock.wait(STOP_MS, late.signal).then(kill, () => undefined);
    await Promise.all(this.#workers.map(({ gone }) => gone));
    late.abort();
    await Promise.all([timer, ...this.#running]);
  }

  #fork(index: number, after: Promise<unknown> = Promise.resolve()): WorkerProcess {
    const { config, control, log } = this.#options;
    const { admission, spool: sink, audit } = control;
    const worker = new WorkerProcess({
      start: { kind: 'start', index, count: config.workers, config },
      after,
      snapshot: () => this.#snapshot,
      ...{ admission, sink, audit, log },
      pass: async ({ to, protocol, message }) => this.#workers[to]?.tell(protocol, message),
    });
    this.#workers[index] = worker;
    return worker;
  }

  /** Starts a worker again whenever it has ended. */
  async #keep(index: number): Promise<void> {
    const { clock, log, metrics } = this.#options;
    const { signal } = this.#stopping;
    const backoff = new Backoff(RETRY);
    for (let since = clock.monotonicMs(); ; since = clock.monotonicMs()) {
      const worker = this.#workers[index];
      await worker?.gone;
      this.#count();
      if (signal.aborted || worker === undefined) return;
      metrics.workersLost.inc();
      this.#lost.add(worker.samples);
      worker.samples = new Map();
      log.error({ worker: index, pid: worker.pid, err: worker.fault }, 'worker process lost');
      if (clock.monotonicMs() - since > SETTLED_MS) backoff.reset();
      await clock.wait(backoff.next(), signal).catch(() => undefined);
      if (signal.aborted) return;
      await this.#fork(index).serving.then(
        () => log.info({ worker: index }, 'worker process serves again'),
        () => undefined,
      );
      this.#count();
    }
  }

  async #pingAll(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      for (const worker of this.#workers) worker.ping();
      await this.#options.clock.wait(PING_MS, signal).catch(() => undefined);
    }
  }

  #count(): void {
    const serving = this.#workers.filter(({ isServing }) => isServing);
    this.#options.metrics.workers.set(serving.length);
  }
}

function setUpCluster(): void {
  cluster.schedulingPolicy = cluster.SCHED_RR;
  cluster.setupPrimary({
    exec: fileURLToPath(new URL(`./worker-main${extname(import.meta.url)}`, import.meta.url)),
    args: [],
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
}
