import type { Socket } from 'node:net';
import {
  Enforce,
  Layout,
  type PostgresBackend,
  type PostgresRights,
} from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import type { Logger } from '../../../../../runtime/log.ts';
import type { GatewayMetrics } from '../../../../metrics.ts';
import type { Session } from '../../../../session/session-desk.ts';
import type { ResultGuard } from '../masking/result-guard.ts';
import { type RelayEnd, relay } from '../relay/relay.ts';
import type { JudgedStatement } from '../relay/statement-log.ts';
import { EarlyDial } from '../upstream/early-dial.ts';
import { type BackendConnection, logIn } from '../upstream/login.ts';
import {
  authenticationOk,
  backendKeyData,
  negotiateProtocolVersion,
  parameterStatus,
  readyForQuery,
} from '../wire/backend-messages.ts';
import { endSqlstate, errorResponse, fatal, startupError } from '../wire/errors.ts';
import type { CancelRegistry } from './cancel.ts';
import type { ConnectionLife } from './connection-life.ts';
import { endClient } from './end-client.ts';
import { breaksPin, PINNED_SETTINGS } from './settings.ts';
import type { Startup } from './startup.ts';

/** Makes and removes the roles that sessions log in as. */
export interface RoleKeeper {
  /** A role that can log in once, with the rights of `group`. */
  open(request: {
    group: string;
    viewSchema: string;
    sessionId: string;
    /** Called when the role is about to be opened. */
    onTurn?(): void;
  }): Promise<RoleCredential>;
  /** No second login (threats P5). */
  seal(role: string): Promise<void>;
  /** Ends what it runs and removes it. */
  close(role: string): Promise<void>;
}

export interface RoleCredential {
  readonly role: string;
  readonly password: string;
}

/** What runs for one backend. */
export interface ServedBackend {
  readonly roles: RoleKeeper;
  /** Masks what the database does not; undefined if nothing is masked here. */
  readonly guard: ResultGuard | undefined;
  judge(sql: string, grant: { rights: PostgresRights; hmacKey: Uint8Array }): JudgedStatement;
}

export interface ClientSessionOptions {
  readonly socket: Socket;
  readonly session: Session;
  readonly startup: Startup;
  readonly life: Pick<ConnectionLife, 'signal'>;
  /** @throws Fault UNAVAILABLE for a backend that is not served */
  readonly backendNamed: (name: string) => ServedBackend;
  readonly cancels: CancelRegistry;
  readonly clock: Clock;
  readonly metrics: Pick<GatewayMetrics, 'backendLoginDuration' | 'statements'>;
  readonly log: Logger;
  /** Without its port. */
  readonly clientAddress: string;
}

/** How long a session stays open for its role to go. */
const ROLE_CLOSE_MS = 2000;
/** A shared account cannot be ended by its role: the server looks itself whether the gateway is there. */
const ENDS_WITH_CONNECTION = ['client_connection_check_interval', '1s'] as const;

interface Place {
  readonly backend: PostgresBackend;
  readonly rights: PostgresRights;
  readonly served: ServedBackend;
}

interface DialedPlace extends Place {
  readonly dialing: EarlyDial;
}

/** One session from its role in the backend to the end of both connections. */
export class ClientSession {
  readonly #options: ClientSessionOptions;

  constructor(options: ClientSessionOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { session, life } = this.#options;
    try {
      const place = this.#place();
      life.signal.throwIfAborted();
      using dialing = new EarlyDial(place.backend);
      const credential = await place.served.roles.open({
        group: place.rights.groupRole,
        viewSchema: place.rights.viewSchema,
        sessionId: session.id,
        onTurn: () => void dialing.start(),
      });
      await this.#useRole({ ...place, dialing }, credential);
    } catch (error) {
      session.end(Fault.from(error).message);
      throw error;
    }
  }

  /** Whatever happens, the role is dropped, and the client is told why meanwhile. */
  async #useRole(place: DialedPlace, { role, password }: RoleCredential): Promise<void> {
    const { socket, life } = this.#options;
    const { roles } = place.served;
    let connected: BackendConnection | undefined;
    let words: Promise<void> | undefined;
    try {
      connected = await this.#logIn(place, { role, password });
      await roles.seal(role);
      life.signal.throwIfAborted();
      const end = await this.#relay(place, { role, connected });
      if (end.by === 'client') connected.socket.end();
      else connected.socket.destroy();
      this.#noteEnd(end);
      words = endClient(socket, lastWords(end));
    } catch (error) {
      connected?.socket.destroy();
      words = endClient(socket, this.#failed(error));
    } finally {
      await Promise.all([words, this.#closeRole(roles, role)]);
      connected?.socket.destroy();
    }
  }

  /** Not waited for without end: the keeper goes on by itself until the role is gone. */
  async #closeRole(roles: RoleKeeper, role: string): Promise<void> {
    const { session, clock, log } = this.#options;
    const closing = roles.close(role).catch((error: unknown) => {
      log.warn({ session_id: session.id, err: error }, 'session role is not gone yet');
    });
    const closed = new AbortController();
    const late = clock.wait(ROLE_CLOSE_MS, closed.signal).catch(() => undefined);
    await Promise.race([closing, late]);
    closed.abort();
  }

  #noteEnd(end: RelayEnd): void {
    const { session, log } = this.#options;
    if (end.fault !== undefined && !session.signal.aborted) {
      log.warn({ session_id: session.id, err: end.fault }, 'session cut off');
    }
    session.end(reasonOf(end));
  }

  /** A session that did not get as far as its first statement. */
  #failed(error: unknown): Buffer {
    const { session, log } = this.#options;
    if (session.signal.aborted) {
      const fault = Fault.from(session.signal.reason);
      return fatal(endSqlstate(fault), fault.message);
    }
    const fault = Fault.from(error);
    log.warn({ session_id: session.id, backend: session.backend.name, err: error }, 'login failed');
    session.end(fault.message);
    return errorResponse(startupError(fault));
  }

  #place(): Place {
    const { session, backendNamed } = this.#options;
    const { type } = session.backend;
    const { rights } = session.grant;
    if (type.case !== 'postgres' || rights.case !== 'postgres') {
      throw new Fault('PERMISSION_DENIED', 'the grant gives no rights on a PostgreSQL backend');
    }
    const served = backendNamed(session.backend.name);
    return { backend: type.value, rights: rights.value, served };
  }

  async #logIn(
    { backend, rights, dialing }: DialedPlace,
    { role, password }: RoleCredential,
  ): Promise<BackendConnection> {
    const { startup, life, clock, metrics, session } = this.#options;
    const startedMs = clock.monotonicMs();
    const settings = new Map([...startup.settings, ...grantSettings(rights), ...PINNED_SETTINGS]);
    // Otherwise the role's own holds: the views, then the schemas of the granted tables.
    if (backend.enforce === Enforce.GATEWAY) settings.set(...ENDS_WITH_CONNECTION);
    const theirs = startup.settings.get('search_path');
    if (theirs !== undefined && hasViewsInFront(backend)) {
      settings.set('search_path', `${rights.viewSchema}, ${theirs}`);
    }
    const connected = await logIn({
      address: backend,
      dialing,
      database: backend.database,
      role,
      password,
      settings,
      signal: life.signal,
    });
    const broken = connected.parameters.find(([name, value]) => breaksPin(name, value, role));
    if (broken !== undefined) {
      connected.socket.destroy();
      throw new Fault('BACKEND_FAILED', `the backend does not keep setting "${broken[0]}"`);
    }
    const seconds = (clock.monotonicMs() - startedMs) / 1000;
    metrics.backendLoginDuration.observe(seconds, { backend: session.backend.name });
    return connected;
  }

  async #relay(
    { backend: address, rights, served }: Place,
    { role, connected }: { role: string; connected: BackendConnection },
  ): Promise<RelayEnd> {
    const { socket, session, cancels, clientAddress, clock, metrics } = this.#options;
    const { key, parameters } = connected;
    const { spiffeId } = session.identity;
    const backend = session.backend.name;
    const cancellable = cancels.add({ key, address, clientAddress, spiffeId });
    try {
      socket.write(this.#greeting(parameters, { ...key, secret: cancellable.secret }));
      return await relay({
        client: socket,
        backend: connected.socket,
        session,
        clock,
        role,
        mayListen: rights.statements.some((name) => name === 'listen' || name === 'any'),
        keepsRows: rights.recording?.rows === true,
        guard: served.guard,
        judge: (sql) => served.judge(sql, { rights, hmacKey: session.hmacKey }),
        onStatement: (statementClass, outcome) =>
          metrics.statements.inc({ backend, class: statementClass, outcome }),
      });
    } finally {
      cancellable.remove();
    }
  }

  #greeting(
    parameters: BackendConnection['parameters'],
    { processId, secret }: BackendConnection['key'],
  ): Buffer {
    const { negotiate } = this.#options.startup;
    return Buffer.concat([
      ...(negotiate === undefined ? [] : [negotiateProtocolVersion(negotiate.unknownOptions)]),
      authenticationOk(),
      ...parameters.map(([name, value]) => parameterStatus(name, value)),
      backendKeyData(processId, secret),
      readyForQuery('I'),
    ]);
  }
}

/** What the grant decides, whatever the client asks for (threats P6, P8). */
function grantSettings({ settings, ddlOwner }: PostgresRights): [string, string][] {
  const owner: [string, string][] = ddlOwner === undefined ? [] : [['role', ddlOwner.role]];
  return [...Object.entries(settings), ...owner];
}

function reasonOf({ by, fault }: RelayEnd): string {
  if (fault !== undefined) return fault.message;
  return by === 'client' ? 'the client closed the connection' : 'the backend ended the session';
}

function lastWords({ fault, atBoundary }: RelayEnd): Buffer {
  if (fault === undefined || !atBoundary) return Buffer.alloc(0);
  return fatal(endSqlstate(fault), fault.message);
}

/** Whether masked views are found by the search path, and not by the names of their tables. */
function hasViewsInFront({ enforce, layout }: PostgresBackend): boolean {
  return enforce !== Enforce.GATEWAY && layout !== Layout.IN_PLACE;
}
