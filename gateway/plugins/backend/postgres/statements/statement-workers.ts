import { Worker } from 'node:worker_threads';
import { Fault } from '../../../../../runtime/fault.ts';
import { type LongFacts, type LongStatement, READY } from './long-statement.ts';

/** More would be more memory, and processors that the relaying of all other sessions needs. */
const MOST_WORKERS = 2;
/** Statements that wait for one. Each is of another session. */
const MOST_WAITING = 64;
const START_MS = 30_000;
const DEADLINE_MS = 10_000;
/** An idle thread keeps the parser's memory. */
const IDLE_MS = 60_000;
/** Of one thread, besides the parser's own memory. */
const HEAP_MEGABYTES = 512;

export interface StatementWorkersOptions {
  readonly entry?: URL;
  /** For each statement, from when a thread that has started takes it up. */
  readonly deadlineMs?: number;
  readonly mostWaiting?: number;
  readonly heapMegabytes?: number;
}

interface Job {
  readonly statement: LongStatement;
  readonly signal: AbortSignal;
  resolve(facts: LongFacts): void;
  reject(error: Fault): void;
}

/**
 * Threads that read long statements. They are started when they are needed, and end when they have
 * been idle for a minute, fail, or take too long.
 */
export class StatementWorkers implements AsyncDisposable {
  readonly #options: StatementWorkersOptions;
  readonly #slots: Slot[] = [];
  readonly #waiting: Job[] = [];
  #isClosed = false;

  constructor(options: StatementWorkersOptions = {}) {
    this.#options = options;
  }

  /**
   * @param statement its text must not change until then
   * @throws Fault UNAVAILABLE or RESOURCE_EXHAUSTED, whose message is for the client, and the signal's
   * reason; the statement is not judged then
   */
  async read(statement: LongStatement, signal: AbortSignal): Promise<LongFacts> {
    signal.throwIfAborted();
    if (this.#isClosed) throw new Fault('UNAVAILABLE', 'the gateway is stopping');
    if (this.#waiting.length >= (this.#options.mostWaiting ?? MOST_WAITING)) {
      throw new Fault('RESOURCE_EXHAUSTED', 'too many long statements at a time: try again');
    }
    let abort: (() => void) | undefined;
    try {
      return await new Promise((resolve, reject) => {
        const job: Job = { statement, signal, resolve, reject };
        abort = () => this.#drop(job);
        signal.addEventListener('abort', abort);
        this.#waiting.push(job);
        this.#next();
      });
    } finally {
      if (abort !== undefined) signal.removeEventListener('abort', abort);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const stopping = new Fault('UNAVAILABLE', 'the gateway is stopping');
    for (const job of this.#waiting.splice(0)) job.reject(stopping);
    await Promise.all(this.#slots.map((slot) => slot.end(stopping)));
  }

  #next(): void {
    if (this.#waiting.length === 0 || this.#isClosed) return;
    const slot = this.#freeSlot();
    const job = slot && this.#waiting.shift();
    if (slot === undefined || job === undefined) return;
    slot.take(job);
  }

  /** The one that was busy last has its thread still. */
  #freeSlot(): Slot | undefined {
    const free = this.#slots.filter(({ job }) => job === undefined);
    const warm = free.find(({ isRunning }) => isRunning) ?? free[0];
    if (warm !== undefined || this.#slots.length >= MOST_WORKERS) return warm;
    const { entry = ENTRY, deadlineMs = DEADLINE_MS } = this.#options;
    const { heapMegabytes = HEAP_MEGABYTES } = this.#options;
    const made = new Slot({ entry, deadlineMs, heapMegabytes, freed: () => this.#next() });
    this.#slots.push(made);
    return made;
  }

  #drop(job: Job): void {
    const at = this.#waiting.indexOf(job);
    if (at >= 0) this.#waiting.splice(at, 1);
    const reason = Fault.from(job.signal.reason);
    const slot = this.#slots.find((one) => one.job === job);
    if (slot === undefined) job.reject(reason);
    else void slot.end(reason);
  }
}

/** Built, the program's files end otherwise. */
const ENTRY = new URL(
  import.meta.url.endsWith('.ts') ? './statement-worker.ts' : './statement-worker.js',
  import.meta.url,
);

interface SlotOptions {
  readonly entry: URL;
  readonly deadlineMs: number;
  readonly heapMegabytes: number;
  freed(): void;
}

/** One thread, or the place for one. */
class Slot {
  readonly #options: SlotOptions;
  job: Job | undefined;
  #worker: Worker | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isReady = false;

  constructor(options: SlotOptions) {
    this.#options = options;
  }

  get isRunning(): boolean {
    return this.#worker !== undefined;
  }

  take(job: Job): void {
    this.job = job;
    if (this.#isReady) this.#watch();
    else this.#wait(() => void this.end(failed(new Error('the thread does not start'))), START_MS);
    try {
      this.#worker ??= this.#start();
      const text = Uint8Array.from(job.statement.text);
      this.#worker.ref();
      this.#worker.postMessage({ ...job.statement, text }, [text.buffer]);
    } catch (error) {
      void this.end(failed(error));
    }
  }

  /** Ends the thread, whatever it does, and refuses what it was to read. */
  async end(fault: Fault): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    this.#isReady = false;
    clearTimeout(this.#timer);
    this.#settle((job) => job.reject(fault));
    await worker?.terminate();
  }

  #watch(): void {
    const { deadlineMs } = this.#options;
    const message = `reading it took longer than ${deadlineMs / 1000} s`;
    this.#wait(() => void this.end(new Fault('RESOURCE_EXHAUSTED', message)), deadlineMs);
  }

  #start(): Worker {
    this.#isReady = false;
    const worker = startThread(this.#options);
    worker.stdout.resume();
    worker.stderr.resume();
    const gone = (error: unknown) => {
      if (this.#worker === worker) void this.end(failed(error));
    };
    worker.on('message', (said: LongFacts | typeof READY) => {
      if (this.#worker !== worker) return;
      if (said !== READY) this.#done(said);
      else this.#started();
    });
    worker.on('error', gone);
    worker.on('messageerror', gone);
    worker.on('exit', (code) => gone(new Error(`the thread ended with ${code}`)));
    return worker;
  }

  #started(): void {
    this.#isReady = true;
    if (this.job !== undefined) this.#watch();
  }

  #done(facts: LongFacts): void {
    const worker = this.#worker;
    worker?.unref();
    this.#wait(() => {
      this.#worker = undefined;
      this.#isReady = false;
      void worker?.terminate();
    }, IDLE_MS).unref();
    this.#settle((job) => job.resolve(facts));
  }

  #settle(tell: (job: Job) => void): void {
    const { job } = this;
    this.job = undefined;
    if (job === undefined) return;
    tell(job);
    this.#options.freed();
  }

  #wait(act: () => void, ms: number): NodeJS.Timeout {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, ms);
    return this.#timer;
  }
}

/** From source, as tests in the project's directory run it, a thread is told first to read TypeScript. */
function startThread({ entry, heapMegabytes }: SlotOptions): Worker {
  const resourceLimits = { maxOldGenerationSizeMb: heapMegabytes };
  const options = { resourceLimits, stdout: true, stderr: true };
  if (!entry.pathname.endsWith('.ts')) return new Worker(entry, options);
  const start = `(tsx.register(), import(${JSON.stringify(entry.href)}))`;
  return new Worker(`import('tsx/esm/api').then((tsx) => ${start})`, { ...options, eval: true });
}

function failed(cause: unknown): Fault {
  return new Fault('UNAVAILABLE', 'reading it failed', { cause });
}
