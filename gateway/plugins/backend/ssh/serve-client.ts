/**
 * Serves clients of the SSH port. The user name says what one wants: `login+backend`, a session on that
 * target; any other, the way to a target (ProxyJump), behind which the same gateway asks once more.
 */
import type { KeyObject } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { Fault } from '../../../../runtime/fault.ts';
import { liveSshGrants, printable } from '../../../access/resolve-grant.ts';
import type { SessionDesk, SessionPeer } from '../../../session/session-desk.ts';
import type { BackendContext, TcpConnection } from '../backend.ts';
import type { HostCertificates } from './host-certificates.ts';
import { JumpHop } from './jump-hop.ts';
import { proveClient } from './prove-client.ts';
import { type Admitted, serveLogin } from './serve-login.ts';
import type { PublicKeyAttempt } from './ssh2-server.ts';
import { connectTarget } from './target.ts';
import { TargetSession } from './target-session.ts';
import { type LoginWish, readDirectUser, readInnerUser } from './user-name.ts';

export interface ServeClientOptions {
  readonly context: BackendContext;
  readonly key: KeyObject;
  readonly certificates: HostCertificates;
}

const INNER_GRACE_MS = 20_000;
const USER_CHARACTERS = 128;

/** Serves one client from its first byte to the end of its connection. Does not reject. */
export async function serveClient(
  connection: TcpConnection,
  desk: SessionDesk,
  options: ServeClientOptions & { readonly signal: AbortSignal },
): Promise<void> {
  const client = new SshClient(connection, options);
  await client.serve(desk, options.signal);
}

class SshClient {
  readonly #connection: TcpConnection;
  readonly #options: ServeClientOptions;

  constructor(connection: TcpConnection, options: ServeClientOptions) {
    this.#connection = connection;
    this.#options = options;
  }

  /** The connection that comes over TCP. */
  async serve(desk: SessionDesk, signal: AbortSignal): Promise<void> {
    const { key, certificates, context } = this.#options;
    const { socket } = this.#connection;
    const certificate = await certificates.own().catch(() => undefined);
    if (certificate === undefined) {
      this.#connection.refused('the gateway has no host certificate');
      socket.destroy();
      return;
    }
    await serveLogin({
      ...{ stream: socket, key, certificate, signal, log: context.log },
      prove: (attempt) => this.#prove(attempt),
      refused: (reason) => this.#connection.refused(reason),
      authenticated: () => this.#connection.authenticated(),
      admit: (user, peer) => this.#admit(user, peer, { desk, signal }),
    });
  }

  async #admit(
    user: string,
    peer: SessionPeer,
    { desk, signal }: { readonly desk: SessionDesk; readonly signal: AbortSignal },
  ): Promise<Admitted> {
    const wish = this.#read(peer, () => readDirectUser(user));
    return wish === undefined ? this.#jump(peer, signal) : this.#open(wish, peer, { desk, user });
  }

  #jump(peer: SessionPeer, signal: AbortSignal): JumpHop {
    const { context, certificates } = this.#options;
    const { snapshot, clock } = context;
    const holder = { spiffeId: String(peer.id) };
    if (liveSshGrants(snapshot.value, holder, clock.now()).length === 0) {
      const reason = `${peer.id} holds no grant on any SSH backend`;
      this.#denied(peer, '', reason);
      throw new Fault('PERMISSION_DENIED', reason);
    }
    return new JumpHop({
      ...{ peer, snapshot, clock, signal },
      denied: (backend, reason) => this.#denied(peer, backend, reason),
      certificateOf: (backend) => certificates.of(backend),
      serve: (channel, backend, certificate) => this.#serveInner(channel, backend, certificate),
    });
  }

  /** The connection to a backend, as the client sees it, inside of the one to the gateway. */
  async #serveInner(channel: Duplex, backend: string, certificate: Uint8Array): Promise<void> {
    const { key, context } = this.#options;
    const { clock, log } = context;
    channel.on('error', () => undefined);
    const loggedIn = new AbortController();
    clock.wait(INNER_GRACE_MS, loggedIn.signal).then(
      () => {
        this.#connection.refused('no login within 20 s');
        channel.destroy();
      },
      () => undefined,
    );
    await this.#connection.serveWithin(channel, (desk, signal) =>
      serveLogin({
        ...{ stream: channel, key, certificate, signal, log },
        prove: (attempt) => this.#prove(attempt),
        refused: (reason) => this.#connection.refused(reason),
        authenticated: () => loggedIn.abort(),
        admit: async (user, peer) => {
          const wish = this.#read(peer, () => readInnerUser(user, backend));
          return this.#open(wish, peer, { desk, user });
        },
      }),
    );
    loggedIn.abort();
  }

  async #open(
    wish: LoginWish,
    peer: SessionPeer,
    { desk, user }: { readonly desk: SessionDesk; readonly user: string },
  ): Promise<TargetSession> {
    const { api, clock, log, metrics, snapshot } = this.#options.context;
    const { address } = this.#connection;
    const client = { user: printable(user, USER_CHARACTERS) };
    const session = await desk.open({ ...wish, peer, address, client });
    const { type, name } = session.backend;
    const { rights } = session.grant;
    if (type.case !== 'ssh' || rights.case !== 'ssh') {
      await session[Symbol.asyncDispose]();
      throw new Error('a session that is not of this protocol');
    }
    const target = {
      ...{ sessionId: session.id, name, backend: type.value, login: wish.login },
      hostAuthorities: snapshot.value.sshAuthorities.host,
      ...{ api, clock, signal: session.signal },
    };
    return new TargetSession({
      ...{ session, rights: rights.value, clock, log, metrics },
      connect: () => connectTarget(target),
    });
  }

  #prove(attempt: PublicKeyAttempt): SessionPeer | undefined {
    const { snapshot, trustDomain, clock } = this.#options.context;
    return proveClient(attempt, {
      authorities: snapshot.value.sshAuthorities.user,
      ...{ trustDomain, ip: this.#connection.ip, now: clock.now() },
    });
  }

  /** @throws Fault INVALID_ARGUMENT, once it is in the audit log */
  #read<T>(peer: SessionPeer, read: () => T): T {
    try {
      return read();
    } catch (error) {
      this.#denied(peer, '', Fault.from(error).message);
      throw error;
    }
  }

  #denied(peer: SessionPeer, backend: string, reason: string): void {
    const { address } = this.#connection;
    this.#connection.denied({ backend, grant: '', peer, address }, reason);
  }
}
