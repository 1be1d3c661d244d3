/**
 * A client on its way to a target (`ssh -J`): its connection leads to backends on which it holds a grant
 * and to nothing else. What it finds there is this gateway again, which stands for the backend.
 */
import type { Duplex } from 'node:stream';
import type { Clock } from '../../../../runtime/clock.ts';
import { Fault } from '../../../../runtime/fault.ts';
import type { WatchedSource } from '../../../../runtime/watched.ts';
import { liveSshGrants, shown } from '../../../access/resolve-grant.ts';
import type { GatewaySnapshot } from '../../../access/snapshot.ts';
import type { SessionPeer } from '../../../session/session-desk.ts';
import { notice } from './notice.ts';
import type { Admitted } from './serve-login.ts';
import type { Destination, SshServerConnection } from './ssh2-server.ts';
import { untilAborted } from './until-aborted.ts';
import { within } from './within.ts';

export interface JumpHopOptions {
  readonly peer: SessionPeer;
  readonly snapshot: Pick<WatchedSource<GatewaySnapshot>, 'value'>;
  readonly clock: Clock;
  /** One event: where the client wanted to go and may not; empty for this gateway itself. */
  denied(backend: string, reason: string): void;
  /** A host certificate for the backend. @throws Fault UNAVAILABLE */
  certificateOf(backend: string): Promise<Uint8Array>;
  /** Serves what comes over a channel to the backend, to its end. Must not reject. */
  serve(channel: Duplex, backend: string, certificate: Uint8Array): Promise<void>;
  /** Aborts when the connection must end. */
  readonly signal: AbortSignal;
}

/** What ssh asks for where it was told no other. */
const SSH_PORT = 22;
/** From the login to the first channel. */
const FIRST_CHANNEL_MS = 20_000;
/** From the end of the last channel to that of the connection: the client comes first, as a rule. */
const LINGER_MS = 2000;
/** When the connection must end, sessions in it have so long to tell their clients. */
const TELL_MS = 500;
/** Sessions that end with the certificate tell their clients themselves. */
const ENDING_MS = 1000;

export class JumpHop implements Admitted {
  readonly #options: JumpHopOptions;
  readonly #channels = new Set<Promise<void>>();
  readonly #over = new AbortController();
  #idle = new AbortController();
  #reason = 'the connection is over';

  constructor(options: JumpHopOptions) {
    this.#options = options;
    this.#endAfter(FIRST_CHANNEL_MS, 'no connection to a backend within 20 s');
  }

  /** @throws Fault PERMISSION_DENIED */
  async session(): Promise<never> {
    const what = 'here is no shell and no command';
    this.#options.denied('', what);
    const how = 'name a login and a backend as the user, as in deploy+web-1, or use ProxyJump';
    throw new Fault('PERMISSION_DENIED', `${what}: ${how}`);
  }

  /** @throws Fault PERMISSION_DENIED, the same for what is not there; UNAVAILABLE */
  async directTcpip({ host, port }: Destination): Promise<(channel: Duplex) => void> {
    const { peer, denied, certificateOf } = this.#options;
    if (!this.#leadsTo(host, port)) {
      const reason = `${peer.id} holds no grant on ${shown(host)}, port ${port}`;
      denied(host, reason);
      throw new Fault('PERMISSION_DENIED', reason);
    }
    const certificate = await certificateOf(host);
    return (channel) => this.#serve(channel, host, certificate);
  }

  /** Ends with the client, the gateway, the certificate, or its last channel. */
  async run(client: SshServerConnection): Promise<void> {
    const { signal, clock, peer } = this.#options;
    const over = (reason: string) => this.#end(reason);
    const stop = () => over('the gateway is stopping');
    void client.closed.then(() => over('the client closed the connection'));
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    const end = new Date(peer.notAfter.getTime() + ENDING_MS);
    clock.waitUntil(end, this.#over.signal).then(
      () => over('the certificate has expired'),
      () => undefined,
    );
    await untilAborted(this.#over.signal);
    signal.removeEventListener('abort', stop);
    await within(TELL_MS, Promise.all(this.#channels), clock);
    client.end(notice(this.#reason));
    await client.closed;
    await Promise.all(this.#channels);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end('the connection is over');
    await Promise.all(this.#channels);
  }

  #leadsTo(host: string, port: number): boolean {
    const { snapshot, peer, clock } = this.#options;
    const now = clock.now();
    const type = snapshot.value.backends.get(host)?.type;
    if (type?.case !== 'ssh' || (port !== SSH_PORT && port !== type.value.port)) return false;
    if (now >= peer.notAfter || this.#over.signal.aborted) return false;
    const holder = { spiffeId: String(peer.id), backend: host };
    return liveSshGrants(snapshot.value, holder, now).length > 0;
  }

  #serve(channel: Duplex, backend: string, certificate: Uint8Array): void {
    this.#idle.abort();
    const served = this.#options.serve(channel, backend, certificate).finally(() => {
      this.#channels.delete(served);
      if (this.#channels.size === 0) this.#endAfter(LINGER_MS, 'the last connection has ended');
    });
    this.#channels.add(served);
  }

  #endAfter(milliseconds: number, reason: string): void {
    if (this.#over.signal.aborted) return;
    this.#idle = new AbortController();
    this.#options.clock.wait(milliseconds, this.#idle.signal).then(
      () => this.#end(reason),
      () => undefined,
    );
  }

  #end(reason: string): void {
    if (this.#over.signal.aborted) return;
    this.#reason = reason;
    this.#idle.abort();
    this.#over.abort();
  }
}
