/**
 * One channel of a session: what the client asks for in it is judged by the grant and recorded, then
 * started on the target and relayed.
 */
import type { Clock } from '../../../../runtime/clock.ts';
import { Fault } from '../../../../runtime/fault.ts';
import type { Logger } from '../../../../runtime/log.ts';
import type { Session } from '../../../session/session-desk.ts';
import { ChannelRecord } from './channel-record.ts';
import {
  type ChannelRights,
  judgeStart,
  mayHaveTerminal,
  ruleMessage,
  type StartVerdict,
} from './channel-rights.ts';
import { endOnTarget } from './end-on-target.ts';
import { notice } from './notice.ts';
import { type ChannelRelay, relayChannel } from './relay-channel.ts';
import type { ClientChannel, SshClientConnection } from './ssh2-client.ts';
import type { ServerChannel, SessionHandlers } from './ssh2-server.ts';
import type { ExitStatus, PtyRequest, StartRequest, WindowSize } from './ssh2-session-values.ts';

export interface SessionChannelOptions {
  readonly session: Pick<Session, 'grant' | 'recorder' | 'counts' | 'signal'>;
  readonly rights: ChannelRights;
  readonly target: Pick<SshClientConnection, 'open'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** For metrics. */
  onJudged(verdict: StartVerdict): void;
  /** The next number of the session's channels. */
  number(): number;
  /** The channel is over, on the target too. */
  onClosed(): void;
}

const ENV_NAME = /^(LANG|LC_[A-Z_]{1,32}|TERM)$/;
const MOST_ENV = 32;
const LONGEST_ENV = 1024;
/** Source: RFC 4254 6.10. */
const SIGNALS = new Set('ABRT ALRM FPE HUP ILL INT KILL PIPE QUIT SEGV TERM USR1 USR2'.split(' '));
/** Until its program runs a client's signals and sizes wait. */
const MOST_WAITING = 64;
const NO_STATUS_MS = 100;
/** As a shell: a command that may not be run, and one that could not be. */
const REFUSED_STATUS = 126;
const FAILED_STATUS = 255;

export class SessionChannel implements SessionHandlers {
  readonly #options: SessionChannelOptions;
  readonly #env = new Map<string, string>();
  readonly #waiting: ((target: ClientChannel) => void)[] = [];
  #terminal: PtyRequest | undefined;
  #client: ServerChannel | undefined;
  #target: ClientChannel | undefined;
  #record: ChannelRecord | undefined;
  #relay: ChannelRelay | undefined;
  #isStarted = false;
  #isOver = false;
  #whenOver: () => void = () => undefined;
  readonly #over = new Promise<void>((resolve) => {
    this.#whenOver = resolve;
  });
  /** Resolves when nothing runs on the target any more. */
  #onTarget: Promise<void> = Promise.resolve();

  constructor(options: SessionChannelOptions) {
    this.#options = options;
  }

  pty(request: PtyRequest): boolean {
    const { rights } = this.#options;
    if (this.#isStarted || this.#terminal !== undefined || !mayHaveTerminal(rights)) return false;
    this.#terminal = request;
    return true;
  }

  env(name: string, value: string): boolean {
    const isFull = this.#env.size >= MOST_ENV || value.length > LONGEST_ENV;
    if (this.#isStarted || isFull || !ENV_NAME.test(name)) return false;
    this.#env.set(name, value);
    return true;
  }

  start(request: StartRequest, channel: ServerChannel): boolean {
    if (this.#isStarted || this.#isOver || this.#options.session.signal.aborted) return false;
    this.#isStarted = true;
    this.#client = channel;
    for (const stream of [channel.input, channel.output, channel.errors]) {
      stream.on('error', () => undefined);
    }
    const terminal = this.#terminal;
    const { rights, session, number, onJudged } = this.#options;
    const verdict = judgeStart({ ...request, hasTerminal: terminal !== undefined }, rights);
    try {
      const opening = { number: number(), request, terminal, verdict };
      this.#record = ChannelRecord.open(session.recorder, opening);
    } catch {
      // The recorder has ended the session, and that ends this channel.
      return false;
    }
    onJudged(verdict);
    if (verdict.allowed) this.#onTarget = this.#run(request, channel, this.#record);
    else this.#refuse(verdict, channel);
    return true;
  }

  resized(window: WindowSize): void {
    if (this.#terminal === undefined || this.#isOver) return;
    try {
      this.#record?.resized(window);
    } catch {
      return;
    }
    if (this.#record === undefined) this.#terminal = { ...this.#terminal, ...window };
    else this.#tell((target) => target.resize(window));
  }

  signalled(name: string): void {
    if (this.#isStarted && SIGNALS.has(name)) this.#tell((target) => target.signal(name));
  }

  /**
   * What was read from the target by now is in the record as sent to the client, though it may not have
   * taken all of it; nothing of the output is read, recorded or counted from now on. A program that
   * cannot be told by SIGPIPE is ended as with its session: one on a terminal, which hangs up, and one
   * on a target that is not OpenSSH's.
   */
  outputRefused(): void {
    this.#tell((target) => {
      if (!target.refuseOutput() || this.#terminal !== undefined) this.#finish(undefined);
    });
  }

  /** The client has closed the channel, or has gone. */
  closed(): void {
    this.#finish(undefined);
  }

  /**
   * Ends the channel with its session: nothing more is forwarded, and what runs on the target is killed.
   * @param reason told to the client in one line
   */
  async end(reason: string): Promise<void> {
    if (!this.#isOver && this.#client !== undefined) this.#say(this.#client, reason);
    this.#finish(undefined);
    await this.#onTarget;
  }

  #refuse(verdict: Extract<StartVerdict, { allowed: false }>, channel: ServerChannel): void {
    this.#say(channel, ruleMessage(verdict.rule, this.#options.session.grant.name));
    this.#finish({ code: REFUSED_STATUS });
  }

  async #run(
    { kind, command }: StartRequest,
    client: ServerChannel,
    record: ChannelRecord,
  ): Promise<void> {
    const terminal = this.#terminal;
    let target: ClientChannel;
    try {
      target = await this.#options.target.open({
        ...{ kind, command, env: this.#env },
        ...(terminal === undefined ? {} : { pty: terminal }),
      });
    } catch (error) {
      this.#failed(client, error);
      return;
    }
    if (!this.#isOver) this.#connect(client, target, record);
    await this.#over;
    await endOnTarget(target, this.#options.clock);
  }

  #connect(client: ServerChannel, target: ClientChannel, record: ChannelRecord): void {
    this.#target = target;
    const { counts } = this.#options.session;
    this.#relay = relayChannel({ client, target, record, counts });
    const { finished, stop } = this.#relay;
    finished.then(
      (status) => this.#ended(status),
      // What cannot be recorded has ended the session, which will say so.
      () => stop(),
    );
    for (const tell of this.#waiting.splice(0)) tell(target);
  }

  /** A channel that ends without a status may be the end of the whole connection, which will say so. */
  #ended(status: ExitStatus): void {
    if (status !== undefined) {
      this.#finish(status);
      return;
    }
    const { clock, session } = this.#options;
    clock.wait(NO_STATUS_MS, session.signal).then(
      () => this.#finish(undefined),
      () => undefined,
    );
  }

  #failed(client: ServerChannel, error: unknown): void {
    if (this.#isOver) return;
    const fault = Fault.from(error);
    this.#options.log.warn({ err: error }, 'a channel did not open on the target');
    this.#say(client, fault.message);
    this.#finish({ code: FAILED_STATUS });
  }

  /** The first end counts. */
  #finish(status: ExitStatus): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#relay?.stop();
    try {
      this.#record?.closed(status);
    } catch {
      // What cannot be recorded has ended the session; the channel is at its end already.
    }
    this.#client?.exit(status);
    this.#whenOver();
    void this.#onTarget.then(() => this.#options.onClosed());
  }

  #tell(tell: (target: ClientChannel) => void): void {
    if (this.#isOver) return;
    if (this.#target !== undefined) tell(this.#target);
    else if (this.#waiting.length < MOST_WAITING) this.#waiting.push(tell);
  }

  #say(channel: ServerChannel, text: string): void {
    const end = this.#terminal === undefined ? '\n' : '\r\n';
    if (channel.errors.writable) channel.errors.write(`${notice(text)}${end}`);
  }
}
