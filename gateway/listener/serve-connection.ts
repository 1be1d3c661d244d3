import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import type { Session, SessionDesk, SessionRequest } from '../session/session-desk.ts';

export interface ServeOptions {
  readonly desk: SessionDesk;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What is served: a client's connection, or one that runs inside of another. */
export interface Served {
  readonly socket: { destroy(): unknown };
  /** `ip:port` of the client. */
  readonly address: string;
}

/** How long a protocol may take to tell its client why, once it must let go: then the socket goes. */
const GRACE_MS = 750;
/** How long after that it may clean up: then its sessions are closed without it. */
const CLEAN_UP_MS = 5000;

/**
 * Hands a connection to its protocol and sees to what the protocol must not forget: when it returns, its
 * sessions are closed and the socket is gone; when `signal` or a session aborts, both happen soon.
 */
export async function serveConnection<C extends Served>(
  protocol: { serve(connection: C, desk: SessionDesk, signal: AbortSignal): Promise<void> },
  connection: C,
  options: ServeOptions,
  signal: AbortSignal,
): Promise<void> {
  const served = new ServedConnection(connection, options);
  const stop = () => served.stop();
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    const serving = protocol.serve(connection, served, signal);
    await Promise.race([serving, served.abandoned]);
  } catch (error) {
    options.log.error({ peer_addr: connection.address, err: error }, 'protocol failed');
  } finally {
    signal.removeEventListener('abort', stop);
    await served.end();
  }
}

/** A connection with the sessions that were opened on it. */
class ServedConnection implements SessionDesk {
  /** Rejects when the protocol had its time to let go and did not. */
  readonly abandoned: Promise<never>;
  readonly #connection: Served;
  readonly #options: ServeOptions;
  readonly #sessions: Session[] = [];
  readonly #over = new AbortController();
  #abandon: (reason: Error) => void = () => {};
  #isUrged = false;

  constructor(connection: Served, options: ServeOptions) {
    this.#connection = connection;
    this.#options = options;
    this.abandoned = new Promise((_, reject) => {
      this.#abandon = reject;
    });
  }

  async open(request: SessionRequest): Promise<Session> {
    const session = await this.#options.desk.open(request);
    if (this.#over.signal.aborted) {
      await session[Symbol.asyncDispose]();
      throw new Fault('UNAVAILABLE', 'the connection is closed');
    }
    this.#sessions.push(session);
    session.signal.addEventListener('abort', () => this.#urge(), { once: true });
    return session;
  }

  /** Ends the sessions and gives the protocol its time to let go. */
  stop(): void {
    for (const session of this.#sessions) session.end('the gateway is stopping');
    this.#urge();
  }

  async end(): Promise<void> {
    this.#over.abort();
    this.#connection.socket.destroy();
    for (const session of this.#sessions) await session[Symbol.asyncDispose]();
  }

  #urge(): void {
    if (this.#isUrged) return;
    this.#isUrged = true;
    this.#letGo().catch(() => undefined);
  }

  /** Rejects when the protocol returns. */
  async #letGo(): Promise<void> {
    const { clock } = this.#options;
    await clock.wait(GRACE_MS, this.#over.signal);
    this.#connection.socket.destroy();
    await clock.wait(CLEAN_UP_MS, this.#over.signal);
    this.#abandon(new Error('the protocol does not let go'));
  }
}
