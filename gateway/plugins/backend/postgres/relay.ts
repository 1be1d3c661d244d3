/**
 * Moves one session's messages between its client and its backend, until one of them ends it or the
 * session's signal does. Client to backend: frame, judge, record, write; backend to client: frame,
 * count, record, write. Only this file touches both sockets; one write for each chunk that arrives.
 */
import type { Socket } from 'node:net';
import { Fault } from '../../../../runtime/fault.ts';
import type { Session } from '../../../session/session-desk.ts';
import { BACKEND_RULES, BackendReplies } from './backend-replies.ts';
import { CLIENT_RULES, ClientMessages } from './client-messages.ts';
import { Exchange } from './exchange.ts';
import { FrameStream } from './frames.ts';
import { type JudgedStatement, StatementLog, type StatementLogOptions } from './statement-log.ts';

/** Unanswered messages beyond which no more are read from the client. */
const MOST_PENDING = 65_536;
const MOST_PENDING_BYTES = 16 * 1024 * 1024;
/** How long the backend has to finish what a client sent before its Terminate. */
const FINISH_TIMEOUT_MS = 1000;

export interface RelayOptions {
  readonly client: Socket;
  readonly backend: Socket;
  readonly session: Pick<Session, 'signal' | 'counts' | 'recorder'>;
  readonly clock: StatementLogOptions['clock'];
  readonly onStatement: StatementLogOptions['onStatement'];
  readonly role: string;
  /** 0 for no limit. */
  readonly rowLimit: number;
  judge(sql: string): JudgedStatement;
}

export interface RelayEnd {
  readonly by: 'client' | 'backend' | 'gateway';
  /** Why, if the gateway or the backend ended it; its message is for the client. */
  readonly fault: Fault | undefined;
  /** Whether a message can be sent to the client, or the last one is cut off in the middle. */
  readonly atBoundary: boolean;
}

/** Resolves when the session must end; both sockets are then paused and still open, unless they closed. */
export function relay(options: RelayOptions): Promise<RelayEnd> {
  return new Promise((resolve) => new Relay(options, resolve).start());
}

class Relay {
  readonly #client: Socket;
  readonly #backend: Socket;
  readonly #options: RelayOptions;
  readonly #resolve: (end: RelayEnd) => void;
  readonly #exchange = new Exchange();
  readonly #log: StatementLog;
  readonly #replies: BackendReplies;
  readonly #up: FrameStream;
  readonly #down: FrameStream;
  readonly #unlisten: (() => void)[] = [];
  #ended = false;

  constructor(options: RelayOptions, resolve: (end: RelayEnd) => void) {
    const { client, backend, session, judge, clock, onStatement, rowLimit, role } = options;
    const exchange = this.#exchange;
    this.#options = options;
    this.#resolve = resolve;
    this.#client = client;
    this.#backend = backend;
    const { counts, recorder } = session;
    const log = new StatementLog({ recorder, counts, clock, onStatement });
    const messages = new ClientMessages({ exchange, log, judge });
    this.#log = log;
    this.#replies = new BackendReplies({ exchange, log, counts, rowLimit, role });
    const replies = this.#replies;
    this.#up = new FrameStream(CLIENT_RULES, (data, start, end) =>
      messages.handle(data, start, end),
    );
    this.#down = new FrameStream(BACKEND_RULES, (data, start, end) =>
      replies.handle(data, start, end),
    );
  }

  start(): void {
    const { signal } = this.#options.session;
    const abort = () => this.#end('gateway', Fault.from(signal.reason));
    signal.addEventListener('abort', abort);
    this.#unlisten.push(() => signal.removeEventListener('abort', abort));
    this.#listen(this.#client, 'data', (chunk) => this.#fromClient(chunk));
    this.#listen(this.#client, 'drain', () => this.#balance());
    this.#listen(this.#client, 'end', () => this.#clientEnded());
    this.#listen(this.#client, 'close', () => this.#end('client'));
    this.#listen(this.#backend, 'data', (chunk) => this.#fromBackend(chunk));
    this.#listen(this.#backend, 'drain', () => this.#balance());
    this.#listen(this.#backend, 'end', () => this.#backendEnded());
    this.#listen(this.#backend, 'close', () => this.#backendEnded());
    if (signal.aborted) abort();
    else if (this.#client.destroyed) this.#end('client');
    else if (this.#backend.destroyed) this.#backendEnded();
  }

  #listen(socket: Socket, event: string, listener: (chunk: Buffer) => void): void {
    socket.on(event, listener);
    this.#unlisten.push(() => socket.removeListener(event, listener));
  }

  #fromClient(chunk: Buffer): void {
    this.#options.session.counts.bytesUp += chunk.length;
    try {
      this.#up.push(chunk, this.#toBackend);
      this.#balance();
    } catch (error) {
      this.#end('gateway', Fault.from(error));
    }
    if (this.#exchange.terminated && !this.#ended) this.#finish();
  }

  #fromBackend(chunk: Buffer): void {
    try {
      this.#down.push(chunk, this.#toClient);
      this.#balance();
    } catch (error) {
      this.#end('gateway', Fault.from(error));
    }
  }

  readonly #toBackend = (bytes: Buffer): void => {
    this.#log.beforeEffect();
    this.#backend.write(bytes);
  };

  readonly #toClient = (bytes: Buffer): void => {
    this.#options.session.counts.bytesDown += bytes.length;
    this.#client.write(bytes);
  };

  /** Who cannot write, or waits for too many answers, does not read. */
  #balance(): void {
    const { pendingCount, pendingBytes } = this.#exchange;
    const crowded = pendingCount > MOST_PENDING || pendingBytes > MOST_PENDING_BYTES;
    setFlowing(this.#client, !this.#backend.writableNeedDrain && !crowded);
    setFlowing(this.#backend, !this.#client.writableNeedDrain);
  }

  #clientEnded(): void {
    if (!this.#exchange.terminated) this.#end('client');
  }

  #backendEnded(): void {
    if (this.#exchange.terminated) this.#end('client');
    else if (this.#replies.saidFatal) this.#end('backend');
    else this.#end('backend', new Fault('BACKEND_FAILED', 'the backend closed the connection'));
  }

  /** After Terminate: what is under way may still come to its end. */
  #finish(): void {
    if (this.#exchange.pendingCount === 0) {
      this.#end('client');
      return;
    }
    const timer = setTimeout(() => this.#end('client'), FINISH_TIMEOUT_MS);
    this.#unlisten.push(() => clearTimeout(timer));
  }

  /** The first end counts. */
  #end(by: RelayEnd['by'], fault?: Fault): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const unlisten of this.#unlisten.splice(0)) unlisten();
    this.#client.pause();
    this.#backend.pause();
    this.#resolve({ by, fault, atBoundary: this.#down.atBoundary });
  }
}

function setFlowing(socket: Socket, flowing: boolean): void {
  if (flowing === !socket.isPaused()) return;
  if (flowing) socket.resume();
  else socket.pause();
}
