/**
 * Moves one session's messages between its client and its backend, until one of them ends it or the
 * session's signal does. Client to backend: frame, judge, record, write; backend to client: frame,
 * count, record, write. Only this file touches both sockets.
 */
import type { Socket } from 'node:net';
import { Fault } from '../../../../../runtime/fault.ts';
import type { Session } from '../../../../session/session-desk.ts';
import type { ResultGuard } from '../masking/result-guard.ts';
import { IdleInTransaction } from '../wire/errors.ts';
import { FrameStream } from '../wire/frames.ts';
import { BACKEND_RULES, BackendReplies } from './backend-replies.ts';
import { CLIENT_RULES, ClientMessages } from './client-messages.ts';
import { Exchange } from './exchange.ts';
import { KeptRows } from './kept-rows.ts';
import { type JudgedStatement, StatementLog, type StatementLogOptions } from './statement-log.ts';

/** Unanswered messages beyond which no more are read from the client. */
const MOST_PENDING = 65_536;
const MOST_PENDING_BYTES = 16 * 1024 * 1024;
/** How long the backend has to finish what a client sent before its Terminate. */
const FINISH_TIMEOUT_MS = 1000;

export interface RelayOptions {
  /**
   * Takes what is to be called when the client asks for a cancel. It returns whether there was a
   * statement to cancel that the backend has not seen.
   */
  onCancel?(cancel: () => boolean): void;
  readonly client: Socket;
  readonly backend: Socket;
  readonly session: Pick<Session, 'signal' | 'counts' | 'recorder' | 'budget'>;
  readonly clock: StatementLogOptions['clock'];
  readonly onStatement: StatementLogOptions['onStatement'];
  readonly role: string;
  /** Whether the grant lets it listen to other sessions. */
  readonly mayListen: boolean;
  /** Whether the record holds what the client gets. */
  readonly keepsRows: boolean;
  /** Undefined if nothing that the backend says is masked here. */
  readonly guard: ResultGuard | undefined;
  judge(sql: string): JudgedStatement;
  /** As `judge`, for texts that would hold up others. @param text UTF-8; must not change until then */
  judgeLong(text: Uint8Array, signal: AbortSignal): Promise<JudgedStatement>;
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
  readonly #messages: ClientMessages;
  readonly #up: FrameStream;
  readonly #down: FrameStream;
  readonly #unlisten: (() => void)[] = [];
  readonly #keptRows: KeptRows | undefined;
  #idle: NodeJS.Timeout | undefined;
  /** The last message to the client is not whole. */
  #isCutOff = false;
  #ended = false;

  constructor(options: RelayOptions, resolve: (end: RelayEnd) => void) {
    const { client, backend, session, clock, onStatement, role, guard, mayListen } = options;
    const { judge, judgeLong } = options;
    const exchange = this.#exchange;
    this.#options = options;
    this.#resolve = resolve;
    this.#client = client;
    this.#backend = backend;
    const { counts, recorder, budget } = session;
    const log = new StatementLog({ recorder, counts, budget, clock, onStatement });
    const describes = guard?.describes ?? 'nothing';
    const resume = () => this.#resumeClient();
    const messages = new ClientMessages({
      ...{ exchange, log, judge, judgeLong, resume, describes },
    });
    this.#messages = messages;
    this.#log = log;
    this.#keptRows = options.keepsRows ? new KeptRows(recorder) : undefined;
    this.#replies = new BackendReplies({ exchange, log, counts, budget, role, guard, mayListen });
    const replies = this.#replies;
    this.#up = new FrameStream(CLIENT_RULES, (data, start, end) =>
      messages.handle(data, start, end),
    );
    const mustHold = (type: string) => replies.mustHold(type);
    this.#down = new FrameStream({ ...BACKEND_RULES, mustHold }, (data, start, end) =>
      replies.handle(data, start, end),
    );
  }

  start(): void {
    const { signal } = this.#options.session;
    const abort = () => this.#end('gateway', Fault.from(signal.reason));
    signal.addEventListener('abort', abort);
    this.#unlisten.push(() => signal.removeEventListener('abort', abort));
    // A statement that is under way is for the backend to cancel.
    this.#options.onCancel?.(
      () => !this.#ended && this.#exchange.pendingCount === 0 && this.#messages.cancelWaiting(),
    );
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
    this.#takeFromClient(chunk);
  }

  /** A verdict that the client's messages waited for is there. */
  #resumeClient(): void {
    if (!this.#ended) this.#takeFromClient(undefined);
  }

  /** @param chunk undefined to go on with what is held */
  #takeFromClient(chunk: Buffer | undefined): void {
    try {
      if (chunk === undefined) this.#up.resume(this.#toBackend);
      else this.#up.push(chunk, this.#toBackend);
      this.#balance();
    } catch (error) {
      this.#end('gateway', Fault.from(error));
    }
    this.#watchIdle();
    if (this.#exchange.terminated && !this.#ended) this.#finish();
  }

  #fromBackend(chunk: Buffer): void {
    try {
      this.#down.push(chunk, this.#toClient);
      this.#balance();
    } catch (error) {
      this.#end('gateway', Fault.from(error));
    }
    this.#watchIdle();
  }

  readonly #toBackend = (bytes: Buffer): void => {
    this.#log.beforeEffect();
    this.#backend.write(bytes);
  };

  readonly #toClient = (bytes: Buffer): void => {
    const { budget, counts } = this.#options.session;
    budget.bytes(bytes.length);
    this.#keptRows?.write(bytes);
    counts.bytesDown += bytes.length;
    this.#client.write(bytes);
    this.#isCutOff = !this.#down.atBoundary;
  };

  /** Who cannot write, or waits for a verdict or too many answers, does not read. */
  #balance(): void {
    const { pendingCount, pendingBytes } = this.#exchange;
    const crowded = pendingCount > MOST_PENDING || pendingBytes > MOST_PENDING_BYTES;
    const waits = crowded || this.#up.isWaiting;
    setFlowing(this.#client, !this.#backend.writableNeedDrain && !waits);
    setFlowing(this.#backend, !this.#client.writableNeedDrain);
  }

  /** A transaction waits for its client (threats P12): only what the backend must answer ends the wait. */
  #watchIdle(): void {
    const isIdle =
      !this.#replies.isAtRest && this.#exchange.pendingCount === 0 && !this.#up.isWaiting;
    if (isIdle === (this.#idle !== undefined)) return;
    clearTimeout(this.#idle);
    this.#idle = undefined;
    if (!isIdle || this.#ended) return;
    const { idleInTransactionMs } = this.#options.session.budget;
    const end = () => this.#end('gateway', new IdleInTransaction(idleInTransactionMs));
    this.#idle = setTimeout(end, idleInTransactionMs);
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

  /** What the client was sent last may have held something. */
  #noteFindings(): void {
    try {
      this.#replies.noteFindings();
    } catch {
      // A record that cannot be written has ended the session.
    }
  }

  /** The first end counts. */
  #end(by: RelayEnd['by'], fault?: Fault): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#idle);
    this.#noteFindings();
    this.#messages.stop();
    for (const unlisten of this.#unlisten.splice(0)) unlisten();
    this.#client.pause();
    this.#backend.pause();
    this.#resolve({ by, fault, atBoundary: !this.#isCutOff });
  }
}

function setFlowing(socket: Socket, flowing: boolean): void {
  if (flowing === !socket.isPaused()) return;
  if (flowing) socket.resume();
  else socket.pause();
}
