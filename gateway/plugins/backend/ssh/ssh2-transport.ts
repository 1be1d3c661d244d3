/**
 * One SSH connection's transport over a stream, in either role. What ssh2 leaves open is closed here:
 * each failure is told once and never thrown at the process, what waits to be sent is bounded, keys are
 * renewed, an end is an end.
 */
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { SshReader } from '../../../../identity/ssh/wire.ts';
import { systemClock } from '../../../../runtime/clock.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { GatheredWrites } from './ssh2-gathered-writes.ts';
import { IdentReader } from './ssh2-ident.ts';
import {
  createProtocol,
  type Protocol,
  type ProtocolConfig,
  sendPayload,
  sendUrgently,
  sessionId,
} from './ssh2-internals.ts';
import {
  DISCONNECT,
  disconnectMessage,
  isIgnored,
  isOfService,
  MESSAGE,
  message,
  printable,
  violation,
} from './ssh2-messages.ts';

/** What of ssh2's configuration differs between the roles. */
export type TransportRole = Pick<ProtocolConfig, 'server' | 'offer' | 'hostKeys' | 'hostVerifier'>;

export interface TransportOptions {
  readonly stream: Duplex;
  readonly ident: string;
  /** @param protocol for what must know the key exchange */
  role(protocol: () => Protocol): TransportRole;
  /** The first key exchange is over: from here on `message` is called. */
  ready(): void;
  /** A message from number 5 on. What it throws ends the connection. */
  message(payload: Buffer): void;
  /** The connection is over; called once. */
  closed(reason: Fault): void;
  readonly limits?: TransportLimits;
}

export interface TransportLimits {
  /** After so many bytes in both directions the keys are renewed. */
  readonly rekeyBytes: number;
  readonly rekeyMs: number;
  /** A peer that reads so little that more than this waits for it is let go. */
  readonly pendingBytes: number;
}

const LIMITS: TransportLimits = {
  rekeyBytes: 2 ** 30,
  rekeyMs: 3_600_000,
  pendingBytes: 2 ** 20,
};

/** Above this channels wait with what they have to send. */
const BUSY_BYTES = 256 * 1024;
/** What a peer may send before the login: a client that tries many keys needs some thirty messages. */
const STRANGERS_MESSAGES = 100;
/** What comes is read in pieces, so that messages are counted before there are thousands of them. */
const PIECE_BYTES = { stranger: 1024, known: 8192 } as const;
/** After so many in one piece the other connections have their turn. */
const MANY_MESSAGES = 64;
const KEX_TIMEOUT_MS = 30_000;
/** How long a peer has to read why the connection ends. */
const LINGER_MS = 400;
const KEEP_ALIVE_MS = 30_000;
/** What may wait for a key exchange to end: answers to requests. */
const MOST_QUEUED = 1024;

export class SshTransport {
  /** Resolves when the stream is closed too. */
  readonly closed: Promise<void>;
  readonly #stream: Duplex;
  readonly #options: TransportOptions;
  readonly #limits: TransportLimits;
  readonly #protocol: Protocol;
  readonly #writes: GatheredWrites;
  readonly #waiting: (() => void)[] = [];
  readonly #ident: IdentReader;
  #isReady = false;
  #isAuthenticated = false;
  #isOver = false;
  #sinceKeys = { bytes: 0, at: systemClock.monotonicMs() };
  #kexTimer: NodeJS.Timeout | undefined;

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#limits = options.limits ?? LIMITS;
    this.#stream = options.stream;
    this.#writes = new GatheredWrites(options.stream, () => this.#wake());
    const role = options.role(() => this.#protocol);
    this.#ident = new IdentReader(role.server);
    this.#protocol = this.#createProtocol(role);
    this.closed = new Promise((resolve) => {
      if (this.#stream.closed) resolve();
      this.#stream.once('close', () => resolve());
    });
    this.#listen();
    if (!this.#isOver) this.#protocol.start();
  }

  /** Names the connection in what a client signs; only once it is ready. */
  get sessionId(): Buffer {
    return sessionId(this.#protocol);
  }

  /** What the peer calls its software, untrusted. */
  get peerSoftware(): string {
    return this.#ident.software;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whether a channel should wait with what it has to send. */
  get isBusy(): boolean {
    return this.#protocol._kexinit !== undefined || this.#writes.isFull(BUSY_BYTES);
  }

  /** Calls back once, when the transport is not busy; whoever waits longest comes first. */
  whenIdle(callback: () => void): void {
    this.#waiting.push(callback);
  }

  /** From here on the peer may renew keys. */
  authenticated(): void {
    this.#isAuthenticated = true;
  }

  /** Sends a message, its payload in two parts where that saves a copy. */
  send(head: Uint8Array, body?: Uint8Array): void {
    if (this.#isOver) return;
    this.#renewKeys();
    sendPayload(this.#protocol, head, body);
    if ((this.#protocol._queue?.length ?? 0) > MOST_QUEUED) {
      this.destroy(violation('the peer asks on during a key exchange'));
    }
  }

  /** Tells the peer why, then closes. */
  disconnect(reason: Fault, code: number): void {
    if (this.#isOver) return;
    try {
      // Before the peer's first line it could not read it.
      if (this.#ident.isWhole) {
        sendUrgently(this.#protocol, disconnectMessage(code, reason.message));
      }
    } catch {
      // The stream is gone, which is what was wanted.
    }
    this.#finish(reason);
  }

  destroy(reason: Fault): void {
    this.#finish(reason);
    this.#stream.destroy();
  }

  #createProtocol(role: TransportRole): Protocol {
    const protocol = createProtocol({
      ident: this.#options.ident,
      ...role,
      onWrite: (data) => this.#write(data),
      onError: (error) => this.#finish(new Fault('UNAVAILABLE', printable(error.message))),
      onHandshakeComplete: () => this.#keysRenewed(),
      messageHandlers: {
        DISCONNECT: (_, code, text) => this.#disconnected(code, text),
      },
    });
    const exchangeKeys = protocol._onPayload;
    protocol._onPayload = (payload) => {
      if (this.#isOver) return Number.POSITIVE_INFINITY;
      if (payload[0] === MESSAGE.KEXINIT) return this.#rekey(exchangeKeys, payload);
      this.#receive(payload);
      return this.#isOver ? Number.POSITIVE_INFINITY : undefined;
    };
    return protocol;
  }

  #listen(): void {
    const stream = this.#stream;
    if (stream instanceof Socket) stream.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS);
    const gone = () => this.#finish(new Fault('UNAVAILABLE', 'the connection is closed'));
    stream.on('data', (chunk: Buffer) => this.#read(chunk));
    stream.on('drain', () => this.#wake());
    stream.on('end', gone);
    // `close` follows; without a listener an error would end the process.
    stream.on('error', gone);
    stream.on('close', gone);
    if (stream.destroyed) gone();
  }

  #read(chunk: Buffer): void {
    this.#sinceKeys.bytes += chunk.length;
    this.#take(() => {
      const bytes = this.#ident.take(chunk);
      if (bytes !== undefined) this.#parse(bytes);
    });
  }

  /** What comes after the end is read and forgotten, so that the peer gets to read the reason. */
  #take(read: () => void): void {
    if (this.#isOver) return;
    try {
      read();
      this.#renewKeys();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Messages that have come; with new keys the count may begin anew. */
  get #messages(): number {
    return this.#protocol._decipher?.inSeqno ?? 0;
  }

  #parse(bytes: Buffer): void {
    for (let rest = bytes; rest.length > 0; ) {
      const before = this.#messages;
      const piece = rest.subarray(0, PIECE_BYTES[this.#isAuthenticated ? 'known' : 'stranger']);
      rest = rest.subarray(piece.length);
      this.#protocol.parse(piece, 0, piece.length);
      if (this.#isOver) return;
      if (!this.#isAuthenticated && this.#messages > STRANGERS_MESSAGES) {
        this.destroy(violation('too many messages before the login'));
      } else if (rest.length > 0 && this.#messages - before > MANY_MESSAGES) {
        this.#parseLater(rest);
        return;
      }
    }
  }

  #parseLater(rest: Buffer): void {
    this.#stream.pause();
    setImmediate(() => {
      this.#stream.resume();
      this.#take(() => this.#parse(rest));
    });
  }

  #receive(payload: Buffer): void {
    const [number = 0] = payload;
    if (number === MESSAGE.DISCONNECT) {
      const reader = new SshReader(payload.subarray(1), 'disconnection');
      this.#disconnected(reader.u32(), reader.text());
    } else if (isOfService(number)) {
      this.#options.message(payload);
    } else if (!isIgnored(number)) {
      this.unimplemented();
    }
  }

  /** Tells the peer that the message at hand means nothing here. */
  unimplemented(): void {
    const sequence = (this.#messages - 1) >>> 0;
    this.send(message(MESSAGE.UNIMPLEMENTED).u32(sequence).finish());
  }

  #rekey(exchangeKeys: Protocol['_onPayload'], payload: Buffer): number | undefined {
    if (!this.#isAuthenticated) throw violation('new keys before the login');
    this.#expectKeys();
    return exchangeKeys(payload);
  }

  #renewKeys(): void {
    if (this.#isOver || !this.#isAuthenticated || this.#protocol._kexinit !== undefined) return;
    const { bytes, at } = this.#sinceKeys;
    if (bytes < this.#limits.rekeyBytes && systemClock.monotonicMs() - at < this.#limits.rekeyMs)
      return;
    this.#expectKeys();
    this.#protocol.rekey();
  }

  #expectKeys(): void {
    this.#kexTimer ??= setTimeout(
      () => this.destroy(violation('the peer does not finish the key exchange')),
      KEX_TIMEOUT_MS,
    );
  }

  #keysRenewed(): void {
    clearTimeout(this.#kexTimer);
    this.#kexTimer = undefined;
    this.#sinceKeys = { bytes: 0, at: systemClock.monotonicMs() };
    const isFirst = !this.#isReady;
    this.#isReady = true;
    if (isFirst) this.#options.ready();
    else this.#wake();
  }

  #write(data: Uint8Array): void {
    if (!this.#stream.writable) return;
    this.#sinceKeys.bytes += data.length;
    this.#writes.write(data);
    if (this.#writes.length > this.#limits.pendingBytes) {
      this.destroy(violation('the peer does not read'));
    }
  }

  #wake(): void {
    while (!this.isBusy && !this.#isOver) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      next();
    }
  }

  #disconnected(code: number, text: string): void {
    const said = printable(text);
    const why = code === DISCONNECT.BY_APPLICATION || said === '' ? '' : `: ${said}`;
    this.#finish(new Fault('UNAVAILABLE', `the peer ended the connection${why}`));
  }

  #failed(error: unknown): void {
    const isPeers =
      !(error instanceof Fault) ||
      error.code === 'SSH_INVALID' ||
      error.code === 'PROTOCOL_VIOLATION';
    const fault = error instanceof Fault ? error : violation('protocol error', error);
    this.disconnect(fault, isPeers ? DISCONNECT.PROTOCOL_ERROR : DISCONNECT.BY_APPLICATION);
  }

  #finish(reason: Fault): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#kexTimer);
    this.#waiting.length = 0;
    this.#protocol.cleanup();
    this.#writes.flush();
    this.#stream.end();
    const linger = setTimeout(() => this.#stream.destroy(), LINGER_MS);
    void this.closed.then(() => clearTimeout(linger));
    this.#options.closed(reason);
  }
}
