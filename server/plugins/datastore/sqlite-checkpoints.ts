/**
 * SQLite's log has to be moved to the database now and then, which waits for the disk. Here a thread of
 * its own does that, so that no commit of the server, and nobody who waits for its turn behind one, does.
 */
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';

/** Rows between two rounds: a few MB of the log. */
const ROWS_A_ROUND = 1000;

/**
 * What the thread runs: as text, for a thread cannot begin with a file of TypeScript. A passive checkpoint
 * waits for nobody and nobody for it; a disk that is full or away is told of by the commits.
 */
const WORK = `
const { parentPort, workerData } = require('node:worker_threads');
const Database = require(workerData.libsql);
const database = new Database(workerData.file);
database.pragma('synchronous = full');
parentPort.on('message', (message) => {
  if (message === 'close') {
    database.close();
    parentPort.close();
    return;
  }
  try {
    database.pragma('wal_checkpoint(passive)');
  } catch {}
  parentPort.postMessage('done');
});
`;

/** For one database; the thread begins when there is something to do. */
export class Checkpoints implements AsyncDisposable {
  readonly #file: string;
  #worker: Worker | undefined;
  #isBusy = false;
  #rows = 0;
  #closed = false;

  constructor(file: string) {
    this.#file = file;
  }

  /** Tells of rows that were committed. */
  written(rows: number): void {
    this.#rows += rows;
    if (this.#rows < ROWS_A_ROUND || this.#isBusy || this.#closed) return;
    this.#rows = 0;
    this.#isBusy = true;
    this.#worker ??= this.#start();
    this.#worker.postMessage('checkpoint');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    const worker = this.#worker;
    if (worker === undefined) return;
    const ended = once(worker, 'exit');
    worker.postMessage('close');
    await ended;
  }

  #start(): Worker {
    const libsql = createRequire(import.meta.url).resolve('libsql');
    const worker = new Worker(WORK, { eval: true, workerData: { libsql, file: this.#file } });
    worker.unref();
    worker.on('message', () => {
      this.#isBusy = false;
    });
    // If it fails, commits move the log themselves, later and in one piece.
    worker.on('error', () => undefined);
    worker.on('exit', () => {
      this.#worker = undefined;
    });
    return worker;
  }
}
