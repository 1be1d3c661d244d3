import cluster, { type Worker } from 'node:cluster';
import type { HostPort } from '../../runtime/config.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Samples } from '../../runtime/metrics.ts';
import type { AuditSink, GatewayAudit } from '../access/gateway-audit.ts';
import type { AdmittedSession, SessionAdmission } from '../session/admit-session.ts';
import {
  faultOf,
  requestOf,
  type ToPrimary,
  type ToWorker,
  wireFault,
  wireSession,
} from './messages.ts';

export interface WorkerProcessOptions {
  readonly start: Extract<ToWorker, { readonly kind: 'start' }>;
  /** Before which it gets no further than to have loaded its code. */
  readonly after: Promise<unknown>;
  /** The newest, encoded; undefined before the first. */
  snapshot(): Uint8Array | undefined;
  readonly admission: SessionAdmission;
  readonly sink: AuditSink;
  readonly audit: GatewayAudit;
  readonly log: Logger;
  /** A message for another worker; resolves once it was dealt with. */
  pass(message: Extract<ToPrimary, { readonly kind: 'tell' }>): Promise<void>;
}

/** About as many seconds: a worker that answers nothing ends no session either. */
const MOST_UNANSWERED = 30;

const DIED = "the gateway's worker process has died";

/** The primary's side of one worker process, from its start to its end. */
export class WorkerProcess {
  /** Resolves when it serves; rejects if it ends before that. */
  readonly serving: Promise<ReadonlyMap<string, HostPort>>;
  /** Resolves when the process is gone and its sessions are closed. */
  readonly gone: Promise<void>;
  samples: Samples = new Map();
  readonly #options: WorkerProcessOptions;
  readonly #worker: Worker;
  readonly #sessions = new Map<number, AdmittedSession>();
  /** Messages of other workers that it has not dealt with. */
  readonly #told = new Map<number, () => void>();
  #lastTold = 0;
  #unanswered = 0;
  #isGone = false;
  #isServing = false;
  #fault: Fault | undefined;
  #serves: (listeners: ReadonlyMap<string, HostPort>) => void = () => undefined;

  constructor(options: WorkerProcessOptions) {
    this.#options = options;
    this.#worker = cluster.fork();
    this.#worker.on('message', (message) => this.#receive(message as ToPrimary));
    this.gone = end(this.#worker).then((how) => this.#ended(how));
    this.serving = new Promise((resolve, reject) => {
      this.#serves = resolve;
      void this.gone.then(() => reject(this.#fault));
    });
    this.serving.catch(() => undefined);
  }

  get pid(): number {
    return this.#worker.process.pid ?? 0;
  }

  get isServing(): boolean {
    return this.#isServing && !this.#isGone;
  }

  /** Why it ended; undefined before that. */
  get fault(): Fault | undefined {
    return this.#fault;
  }

  send(message: ToWorker): void {
    if (this.#isGone || !this.#worker.isConnected()) return;
    this.#worker.process.send?.(message, undefined, undefined, () => undefined);
  }

  /** Asks whether it still does its work; one that has not answered for long is killed. */
  ping(): void {
    const { log } = this.#options;
    this.#unanswered += 1;
    if (this.#unanswered > MOST_UNANSWERED) {
      log.error({ worker: this.#options.start.index, pid: this.pid }, 'worker hangs: it is killed');
      this.kill();
    }
    this.send({ kind: 'ping', level: log.level });
  }

  /** Asks it to end its clients and itself; one that has none yet is ended at once. */
  stop(): void {
    if (this.#isServing) this.send({ kind: 'stop' });
    else this.kill();
  }

  kill(): void {
    this.#worker.process.kill('SIGKILL');
  }

  /** Resolves once its protocol has dealt with it, or it is gone. */
  async tell(protocol: string, message: unknown): Promise<void> {
    if (!this.isServing) return;
    this.#lastTold += 1;
    const id = this.#lastTold;
    await new Promise<void>((resolve) => {
      this.#told.set(id, resolve);
      this.send({ kind: 'told', id, protocol, message });
    });
    this.#told.delete(id);
  }

  #receive(message: ToPrimary): void {
    switch (message.kind) {
      case 'begun':
        void this.#begin();
        break;
      case 'serving':
        this.#isServing = true;
        this.#serves(new Map(message.listeners));
        break;
      case 'failed':
        this.#fault = faultOf(message.fault);
        break;
      case 'admit':
        void this.#admit(message);
        break;
      case 'close':
        this.#sessions.get(message.ticket)?.close(message.how);
        this.#sessions.delete(message.ticket);
        break;
      case 'event':
        this.#append(message);
        break;
      case 'tell':
        void this.#pass(message);
        break;
      case 'dealtWith':
        this.#told.get(message.id)?.();
        break;
      case 'pong':
        this.#unanswered = 0;
        this.samples = message.samples;
        break;
    }
  }

  async #begin(): Promise<void> {
    const { start, after, log } = this.#options;
    this.send({ kind: 'ping', level: log.level });
    await after.catch(() => undefined);
    this.send(start);
    const snapshot = this.#options.snapshot();
    if (snapshot !== undefined) this.send({ kind: 'snapshot', snapshot });
  }

  async #admit({ ticket, request }: Extract<ToPrimary, { kind: 'admit' }>): Promise<void> {
    const { admission, log } = this.#options;
    try {
      const session = await admission.admit(requestOf(request), (fault, cause) =>
        this.send({ kind: 'end', ticket, fault: wireFault(fault), cause }),
      );
      if (this.#isGone) {
        session.close({ reason: DIED });
        return;
      }
      this.#sessions.set(ticket, session);
      this.send({ kind: 'admitted', ticket, session: wireSession(session) });
    } catch (error) {
      const fault = wireFault(error);
      if (fault.code === 'INTERNAL') log.error({ err: error }, 'session could not be admitted');
      this.send({ kind: 'refused', ticket, fault });
    }
  }

  #append({ event }: Extract<ToPrimary, { kind: 'event' }>): void {
    try {
      this.#options.sink.append(event);
    } catch (error) {
      this.#options.log.error({ err: error }, 'audit event lost');
    }
  }

  async #pass(message: Extract<ToPrimary, { kind: 'tell' }>): Promise<void> {
    await this.#options.pass(message);
    this.send({ kind: 'dealtWith', id: message.id });
  }

  /** What it held open is closed: its own end of it is gone with it. */
  #ended(how: string): void {
    this.#isGone = true;
    const { index } = this.#options.start;
    this.#fault ??= new Fault('STATE_UNUSABLE', `the gateway's worker ${index} ended: ${how}`);
    for (const session of this.#sessions.values()) {
      this.#options.audit.recordingAbandoned(session.subjects);
      session.close({ reason: DIED });
    }
    this.#sessions.clear();
    for (const resolve of this.#told.values()) resolve();
  }
}

/** Resolves with how it ended, once all that it said has been heard. */
async function end(worker: Worker): Promise<string> {
  const silent = new Promise<void>((resolve) => worker.once('disconnect', () => resolve()));
  const how = await new Promise<string>((resolve) => {
    worker.once('exit', (code, signal) => resolve(signal ?? `status ${code}`));
    worker.on('error', (error) => {
      if (worker.process.pid === undefined) resolve(error.message);
    });
  });
  if (worker.isConnected()) await silent;
  return how;
}
