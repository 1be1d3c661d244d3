import type { Readable, Writable } from 'node:stream';
import type { SshReader } from '../../../../identity/ssh/wire.ts';
import { SshWriter } from '../../../../identity/ssh/wire.ts';
import type { SshChannel } from './ssh2-channel.ts';
import { END_OF_WRITE, printable } from './ssh2-messages.ts';
import type { ExitStatus, PtyRequest, StartRequest, WindowSize } from './ssh2-session-values.ts';

/** What a session does with its client's requests, called in their order. Each answers at once. */
export interface SessionHandlers {
  /** At most once, before `start`. */
  pty(request: PtyRequest): boolean;
  /** Any number of times before `start`. */
  env(name: string, value: string): boolean;
  /** Once it returned true it is not called again. What is written before it returns is sent after. */
  start(request: StartRequest, channel: ServerChannel): boolean;
  /** Only after a pty was granted. */
  resized(window: WindowSize): void;
  /** Only after a start. The name is without SIG, untrusted: letters and digits, at most 32. */
  signalled(name: string): void;
  /**
   * Only after a start: the client takes no more of the program's output, and would have it told so. What
   * is written to `output` from now on is thrown away.
   */
  outputRefused(): void;
  /** The channel is gone, whoever closed it. */
  closed(): void;
}

/** A client's session channel, once something was started on it. No stream emits an error. */
export interface ServerChannel {
  readonly input: Readable;
  readonly output: Writable;
  readonly errors: Writable;
  /** Ends both outputs; tells the status and closes when all that was written is sent. */
  exit(status: ExitStatus): void;
  /** Closes at once; what is not sent is lost. */
  close(): void;
}

const LONGEST_TERM = 64;
const LONGEST_MODES = 1024;
const LONGEST_VARIABLE = { name: 256, value: 4096 } as const;
const LONGEST_COMMAND = 32 * 1024;
const LARGEST_SIZE = 2 ** 31 - 1;
const SIGNAL = /^[A-Za-z0-9]{1,32}$/;

/** The requests of a session channel. Whatever is not listed is refused. Source: RFC 4254 6. */
export class ServerSession {
  readonly #handlers: SessionHandlers;
  #channel: SshChannel | undefined;
  #streams: ServerChannel | undefined;
  #hasPty = false;
  #isStarted = false;

  constructor(handlers: SessionHandlers) {
    this.#handlers = handlers;
  }

  set channel(channel: SshChannel) {
    this.#channel = channel;
  }

  closed(): void {
    try {
      this.#handlers.closed();
    } catch (error) {
      // A defect of one channel's must end neither the others' end nor the process.
      process.emitWarning(error instanceof Error ? error : String(error));
    }
  }

  /** @throws Fault SSH_INVALID */
  requested(name: string, reader: SshReader): boolean {
    switch (name) {
      case 'pty-req':
        return this.#pty(readPty(reader));
      case 'env':
        return this.#env(reader);
      case 'shell':
        reader.end();
        return this.#start({ kind: 'shell', command: '' });
      case 'exec':
      case 'subsystem':
        return this.#startCommand(name, reader);
      case 'window-change':
        return this.#resize(readWindow(reader));
      case 'signal':
        return this.#signal(reader);
      case END_OF_WRITE:
        return this.#outputRefused(reader);
      default:
        return false;
    }
  }

  #pty(request: PtyRequest): boolean {
    if (this.#hasPty || this.#isStarted) return false;
    this.#hasPty = this.#handlers.pty(request);
    return this.#hasPty;
  }

  #env(reader: SshReader): boolean {
    const name = plainText(reader.string());
    const value = plainText(reader.string());
    reader.end();
    if (this.#isStarted || name === undefined || value === undefined) return false;
    if (name.length > LONGEST_VARIABLE.name || value.length > LONGEST_VARIABLE.value) return false;
    return this.#handlers.env(name, value);
  }

  #startCommand(kind: 'exec' | 'subsystem', reader: SshReader): boolean {
    const command = reader.string(LONGEST_COMMAND).toString('utf8');
    reader.end();
    return this.#start({ kind, command });
  }

  #start(request: StartRequest): boolean {
    const channel = this.#channel;
    if (this.#isStarted || channel === undefined) return false;
    channel.hold();
    this.#streams ??= serverChannel(channel);
    this.#isStarted = this.#handlers.start(request, this.#streams);
    return this.#isStarted;
  }

  #resize(window: WindowSize): boolean {
    if (!this.#hasPty) return false;
    this.#handlers.resized(window);
    return true;
  }

  #outputRefused(reader: SshReader): boolean {
    reader.end();
    if (!this.#isStarted) return false;
    // In this order: what is thrown away makes room, for which nothing more must be read.
    this.#handlers.outputRefused();
    this.#channel?.discardOutput();
    return true;
  }

  #signal(reader: SshReader): boolean {
    const name = reader.string().toString('latin1');
    reader.end();
    if (!this.#isStarted || !SIGNAL.test(name)) return false;
    this.#handlers.signalled(name);
    return true;
  }
}

function serverChannel(channel: SshChannel): ServerChannel {
  return {
    input: channel.input(),
    output: channel.output(),
    errors: channel.errorOutput(),
    exit: (status) => channel.finish(() => tellExit(channel, status)),
    close: () => channel.close(),
  };
}

function tellExit(channel: SshChannel, status: ExitStatus): void {
  if (status === undefined) return;
  if ('code' in status) {
    channel.tell('exit-status', new SshWriter().u32(status.code >>> 0).finish());
    return;
  }
  const { signal, coreDumped, message } = status;
  const body = new SshWriter().string(signal).boolean(coreDumped).string(printable(message));
  channel.tell('exit-signal', body.string('').finish());
}

function readPty(reader: SshReader): PtyRequest {
  const term = reader.text(LONGEST_TERM);
  const window = readSizes(reader);
  const modes = Buffer.from(reader.string(LONGEST_MODES));
  reader.end();
  return { term, ...window, modes };
}

function readWindow(reader: SshReader): WindowSize {
  const window = readSizes(reader);
  reader.end();
  return window;
}

function readSizes(reader: SshReader): WindowSize {
  const size = () => Math.min(reader.u32(), LARGEST_SIZE);
  return { columns: size(), rows: size(), width: size(), height: size() };
}

/** Undefined for what no variable can hold: no UTF-8, or a NUL within. */
function plainText(bytes: Buffer): string | undefined {
  const text = bytes.toString('utf8');
  return text.includes('\0') || !Buffer.from(text, 'utf8').equals(bytes) ? undefined : text;
}
