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
import { type RelayEnd, relay } from '../relay/relay.ts';
import { EarlyDial } from '../upstream/early-dial.ts';
import { type BackendConnection, isLoginRefused, logIn } from '../upstream/login.ts';
import {
  authenticationOk,
  backendKeyData,
  negotiateProtocolVersion,
  parameterStatus,
  readyForQuery,
} from '../wire/backend-messages.ts';
import {
  endSqlstate,
  errorResponse,
  fatal,
  type PostgresError,
  startupError,
} from '../wire/errors.ts';
import type { CancelRegistry } from './cancel.ts';
import type { ConnectionLife } from './connection-life.ts';
import { endClient } from './end-client.ts';
import type { RoleCredential, RoleKeeper, ServedBackend } from './served-backend.ts';
import { SettingRules } from './setting-rules.ts';
import { breaksPin, PINNED_SETTINGS, settingRefused } from './settings.ts';
import type { Startup } from './startup.ts';

export interface ClientSessionOptions {
  readonly socket: Socket;
  readonly session: Session;
  readonly startup: Startup;
  readonly life: Pick<ConnectionLife, 'signal'>;
  /**
   * @param database as grants name it
   * @throws Fault UNAVAILABLE for a backend or database that is not served
   */
  readonly backendNamed: (name: string, database: string) => ServedBackend;
  readonly cancels: CancelRegistry;
  readonly clock: Clock;
  readonly metrics: Pick<GatewayMetrics, 'backendLoginDuration' | 'statements'>;
  readonly log: Logger;
  /** Without its port. */
  readonly clientAddress: string;
}

/** How long a session stays open for its role to go. */
const ROLE_CLOSE_MS = 2000;
/**
 * A shared account cannot be ended by its role, nor a session on a standby that the gateway cannot reach:
 * the server looks itself whether the gateway is there.
 */
const ENDS_WITH_CONNECTION = ['client_connection_check_interval', '1s'] as const;

interface Place {
  readonly backend: PostgresBackend;
  readonly rights: PostgresRights;
  readonly served: ServedBackend;
  readonly settings: SettingRules;
}

interface DialedPlace extends Place {
  readonly dialing: EarlyDial;
}

interface ConnectedRole extends Omit<RoleCredential, 'password'> {
  readonly connected: BackendConnection;
}

/** One session from its role in the backend to the end of both connections. */
export class ClientSession {
  readonly #options: ClientSessionOptions;

  constructor(options: ClientSessionOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { session, life, socket } = this.#options;
    try {
      const place = this.#place();
      const refusal = this.#refusedSetting(place);
      if (refusal !== undefined) {
        session.end(refusal.message);
        await endClient(socket, errorResponse(refusal));
        return;
      }
      life.signal.throwIfAborted();
      using dialing = new EarlyDial();
      const credential = await place.served.roles.open({
        group: place.rights.groupRole,
        viewSchema: place.rights.viewSchema,
        sessionId: session.id,
        lifeMs: session.expiresAt.getTime() - this.#options.clock.now().getTime(),
        replica: place.rights.replica,
        onTurn: (address) => void dialing.start(address),
      });
      await this.#useRole({ ...place, dialing }, credential);
    } catch (error) {
      session.end(Fault.from(error).message);
      throw error;
    }
  }

  /** Whatever happens, the role is dropped, and the client is told why meanwhile. */
  async #useRole(place: DialedPlace, credential: RoleCredential): Promise<void> {
    const { role, address } = credential;
    const { socket, life } = this.#options;
    const { roles } = place.served;
    let connected: BackendConnection | undefined;
    let words: Promise<void> | undefined;
    try {
      connected = await this.#logIn(place, credential);
      await roles.seal(role);
      life.signal.throwIfAborted();
      const end = await this.#relay(place, { role, address, connected });
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
    const served = backendNamed(session.backend.name, rights.value.database);
    const settings = new SettingRules(served.postgres);
    return { backend: served.postgres, rights: rights.value, served, settings };
  }

  /** What the client asks for as it connects is judged as what it sets later. */
  #refusedSetting({ rights, settings }: Place): PostgresError | undefined {
    if (rights.statements.includes('any')) return undefined;
    for (const [name, value] of this.#options.startup.settings) {
      const rule = settings.refuse([{ name, value }]);
      if (rule !== undefined) return settingRefused(name, rule);
    }
    return undefined;
  }

  async #logIn(
    { backend, rights, dialing, settings: rules }: DialedPlace,
    { role, password, iterations, address, refused }: RoleCredential,
  ): Promise<BackendConnection> {
    const { startup, life, clock, metrics, session } = this.#options;
    const startedMs = clock.monotonicMs();
    const settings = new Map([
      ...rules.startingTimeouts(),
      ...startup.settings,
      ...grantSettings(rights),
      ...PINNED_SETTINGS,
    ]);
    // Otherwise the role's own holds: the views, then the schemas of the granted tables.
    if (backend.enforce === Enforce.GATEWAY || rights.replica) {
      settings.set(...ENDS_WITH_CONNECTION);
    }
    const theirs = startup.settings.get('search_path');
    if (theirs !== undefined && hasViewsInFront(backend)) {
      settings.set('search_path', `${rights.viewSchema}, ${theirs}`);
    }
    const login = {
      ...{ address, dialing, database: backend.database, role, settings },
      ...(iterations && { iterations }),
      signal: life.signal,
    };
    const connected = await logIn({ ...login, password }).catch(async (error: unknown) => {
      const changed = isLoginRefused(error) ? await refused?.() : undefined;
      if (changed === undefined) throw error;
      return await logIn({ ...login, password: changed });
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
    { rights, served }: Place,
    { role, address, connected }: ConnectedRole,
  ): Promise<RelayEnd> {
    const { socket, session, cancels, clientAddress, clock, metrics } = this.#options;
    const { key, parameters } = connected;
    const { spiffeId } = session.identity;
    const backend = session.backend.name;
    let cancelUnseen = () => false;
    const cancellable = cancels.add({
      ...{ key, address, clientAddress, spiffeId },
      cancelUnseen: () => cancelUnseen(),
    });
    try {
      socket.write(this.#greeting(parameters, { ...key, secret: cancellable.secret }));
      const end = await relay({
        client: socket,
        backend: connected.socket,
        session,
        clock,
        role,
        mayListen: rights.statements.some((name) => name === 'listen' || name === 'any'),
        keepsRows: rights.recording?.rows === true,
        guard: served.guard?.forSession(),
        judge: (sql) => served.judge(sql, { rights, hmacKey: session.hmacKey }),
        onCancel: (cancel) => {
          cancelUnseen = cancel;
        },
        judgeLong: (text, signal) =>
          served.judgeLong(text, { rights, hmacKey: session.hmacKey }, signal),
        onStatement: (statementClass, outcome) =>
          metrics.statements.inc({ backend, class: statementClass, outcome }),
      });
      if (end.by === 'gateway') void cancellable.interrupt();
      return end;
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
