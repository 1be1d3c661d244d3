import type { Readable, Writable } from 'node:stream';
import { type SshReader, SshWriter } from '../../../../identity/ssh/wire.ts';
import { Fault } from '../../../../runtime/fault.ts';
import type { SshChannel } from './ssh2-channel.ts';
import type { ChannelTable } from './ssh2-channel-table.ts';
import { END_OF_WRITE, printable } from './ssh2-messages.ts';
import type { ExitStatus, PtyRequest, StartRequest, WindowSize } from './ssh2-session-values.ts';

export interface ClientStartRequest extends StartRequest {
  readonly pty?: PtyRequest;
  /** The server may ignore them. */
  readonly env: ReadonlyMap<string, string>;
}

/** A program that runs on the server. No stream emits an error. */
export interface ClientChannel {
  readonly input: Writable;
  readonly output: Readable;
  readonly errors: Readable;
  /** Resolves when either side has closed the channel; its outputs may still hold what was not read. */
  readonly exit: Promise<ExitStatus>;
  resize(window: WindowSize): void;
  /** @param name without SIG */
  signal(name: string): void;
  /**
   * Takes no more of `output`, which is closed, and has the program told so: the next time that it writes
   * it gets SIGPIPE.
   * @returns false if the server is not one that tells it; then it writes on, and into nothing
   */
  refuseOutput(): boolean;
  close(): void;
}

const LONGEST_SIGNAL = 64;
const LONGEST_TEXT = 4096;

/**
 * Starts a program on the server.
 * @throws Fault UNAVAILABLE when the server refuses
 *
 * Source: RFC 4254 6.
 */
export async function openSession(
  channels: ChannelTable,
  request: ClientStartRequest,
  { knowsEndOfWrite }: { readonly knowsEndOfWrite: boolean },
): Promise<ClientChannel> {
  let status: ExitStatus;
  let close: () => void = () => undefined;
  const closed = new Promise<void>((resolve) => {
    close = resolve;
  });
  const channel = await channels.open({
    requested: (name, reader) => {
      status ??= readExit(name, reader);
      return false;
    },
    closed: () => close(),
  });
  const streams = {
    input: channel.output(),
    output: channel.input(),
    errors: channel.errorInput(),
  };
  await start(channel, request);
  return {
    ...streams,
    exit: closed.then(() => status),
    resize: (window) => channel.tell('window-change', sizes(new SshWriter(), window).finish()),
    signal: (name) => channel.tell('signal', new SshWriter().string(name).finish()),
    refuseOutput: () => {
      if (knowsEndOfWrite && !streams.output.destroyed) channel.tell(END_OF_WRITE);
      streams.output.destroy();
      return knowsEndOfWrite;
    },
    // sshd does not close its side while the program runs.
    close: () => {
      channel.close();
      close();
    },
  };
}

async function start(channel: SshChannel, request: ClientStartRequest): Promise<void> {
  const { kind, command, pty, env } = request;
  const answers = [];
  if (pty !== undefined) answers.push(channel.request('pty-req', ptyBody(pty)));
  for (const [name, value] of env) {
    channel.tell('env', new SshWriter().string(name).string(value).finish());
  }
  const body = kind === 'shell' ? undefined : new SshWriter().string(command).finish();
  answers.push(channel.request(kind, body));
  const granted = await Promise.all(answers);
  if (granted.every((isGranted) => isGranted)) return;
  channel.close();
  const what = granted.length > 1 && granted[0] === false ? 'terminal' : kind;
  throw new Fault('UNAVAILABLE', `the target refuses the ${what}`);
}

function ptyBody(pty: PtyRequest): Buffer {
  return sizes(new SshWriter().string(pty.term), pty).string(pty.modes).finish();
}

function sizes(writer: SshWriter, { columns, rows, width, height }: WindowSize): SshWriter {
  return writer.u32(columns).u32(rows).u32(width).u32(height);
}

/** Undefined for any other request. */
function readExit(name: string, reader: SshReader): ExitStatus {
  if (name === 'exit-status') return { code: reader.u32() };
  if (name !== 'exit-signal') return undefined;
  const signal = printable(reader.string(LONGEST_SIGNAL).toString('utf8'));
  const coreDumped = reader.boolean();
  const text = printable(reader.string(LONGEST_TEXT).toString('utf8'));
  return { signal, coreDumped, message: text };
}
