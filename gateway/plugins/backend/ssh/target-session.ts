/**
 * One session on one target: its channels, the connection that carries them there, and the end of all of
 * it, which is the same whatever the cause: the client is told, what runs on the target is killed, both
 * connections close.
 */
import type { Clock } from '../../../../runtime/clock.ts';
import { Fault } from '../../../../runtime/fault.ts';
import type { Logger } from '../../../../runtime/log.ts';
import { shown } from '../../../access/resolve-grant.ts';
import type { GatewayMetrics } from '../../../metrics.ts';
import type { Session } from '../../../session/session-desk.ts';
import { ChannelRecord } from './channel-record.ts';
import { type ChannelRights, FORWARD, ruleMessage, type StartVerdict } from './channel-rights.ts';
import { notice } from './notice.ts';
import type { Admitted } from './serve-login.ts';
import { SessionChannel } from './session-channel.ts';
import type { SshClientConnection } from './ssh2-client.ts';
import type { Destination, SessionHandlers, SshServerConnection } from './ssh2-server.ts';
import { untilAborted } from './until-aborted.ts';
import { within } from './within.ts';

export interface TargetSessionOptions {
  readonly session: Session;
  readonly rights: ChannelRights;
  /** Logs in to the target; called once, at once. */
  connect(): Promise<SshClientConnection>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Pick<GatewayMetrics, 'backendLoginDuration' | 'sshChannels'>;
}

/** How long a client that was told may take to leave before it is told once more, by a disconnect. */
const LEAVE_MS = 250;
/** How long all channels have to end what runs on the target; a target that answers nothing is left. */
const KILLED_MS = 300;
/** How long either connection may take to close once it is told to. */
const CLOSE_MS = 200;

export class TargetSession implements Admitted {
  readonly #options: TargetSessionOptions;
  readonly #channels = new Set<SessionChannel>();
  readonly #target: Promise<SshClientConnection>;
  #channelCount = 0;

  constructor(options: TargetSessionOptions) {
    this.#options = options;
    this.#target = this.#connect();
    // Whoever opens a channel is told; so is the client that opens none, by its session's end.
    this.#target.catch(() => undefined);
  }

  /** @throws Fault if the target cannot be had, or the session has ended */
  async session(): Promise<SessionHandlers> {
    const { session, rights, clock, log } = this.#options;
    const target = await this.#target;
    session.signal.throwIfAborted();
    const channel: SessionChannel = new SessionChannel({
      ...{ session, rights, target, clock, log },
      onJudged: (verdict) => this.#count(verdict),
      number: () => this.#nextNumber(),
      onClosed: () => this.#channels.delete(channel),
    });
    this.#channels.add(channel);
    return channel;
  }

  /** @throws Fault PERMISSION_DENIED, once it is in the record */
  async directTcpip({ host, port }: Destination): Promise<never> {
    const { session } = this.#options;
    session.signal.throwIfAborted();
    ChannelRecord.open(session.recorder, {
      number: this.#nextNumber(),
      request: { command: `${shown(host)}, port ${port}` },
      terminal: undefined,
      verdict: FORWARD,
    });
    this.#count(FORWARD);
    throw new Fault('PERMISSION_DENIED', ruleMessage(FORWARD.rule, session.grant.name));
  }

  /** Resolves once the session has ended and both connections are closed. */
  async run(client: SshServerConnection): Promise<void> {
    const { session } = this.#options;
    void client.closed.then(() => session.end('the client closed the connection'));
    await untilAborted(session.signal);
    const { message } = Fault.from(session.signal.reason);
    await Promise.all([this.#endTarget(message), this.#endClient(client, message)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { session } = this.#options;
    session.end('the client closed the connection');
    await this.#endTarget(Fault.from(session.signal.reason).message);
    await session[Symbol.asyncDispose]();
  }

  #nextNumber(): number {
    this.#channelCount += 1;
    return this.#channelCount;
  }

  #count({ kind, allowed }: StartVerdict): void {
    const { session, metrics } = this.#options;
    metrics.sshChannels.inc({
      backend: session.backend.name,
      kind: kind === 'subsystem' || kind === 'forward' ? 'other' : kind,
      outcome: allowed ? 'allowed' : 'denied',
    });
  }

  async #connect(): Promise<SshClientConnection> {
    const { session, connect, clock, metrics, log } = this.#options;
    const backend = session.backend.name;
    const startedMs = clock.monotonicMs();
    try {
      const target = await connect();
      const seconds = (clock.monotonicMs() - startedMs) / 1000;
      metrics.backendLoginDuration.observe(seconds, { backend });
      void target.closed.then(() => session.end(`${backend} closed the connection`));
      return target;
    } catch (error) {
      const fault = Fault.from(error);
      if (!session.signal.aborted) {
        log.warn({ session_id: session.id, backend, err: error }, 'login to the target failed');
      }
      session.end(fault.message);
      throw fault;
    }
  }

  /** Idempotent. */
  async #endTarget(reason: string): Promise<void> {
    const { clock } = this.#options;
    const target = await this.#target.catch(() => undefined);
    const ends = Promise.all([...this.#channels].map((channel) => channel.end(reason)));
    if (target === undefined) return;
    await within(KILLED_MS, ends, clock);
    target.end();
    await within(CLOSE_MS, target.closed, clock);
    target.destroy();
  }

  /** A client whose channels are closed leaves by itself, with no other word than theirs. */
  async #endClient(client: SshServerConnection, reason: string): Promise<void> {
    const { clock } = this.#options;
    await within(LEAVE_MS, client.closed, clock);
    client.end(notice(reason));
    await within(CLOSE_MS, client.closed, clock);
    client.destroy();
  }
}
