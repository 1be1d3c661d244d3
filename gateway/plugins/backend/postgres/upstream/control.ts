/**
 * The gateway's own connections to a backend, as the login that can call the functions of
 * `writ backend setup` and nothing else. Clients' sessions never run over them.
 */
import pg from 'pg';
import type { PostgresBackend } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import type { Login, LoginSource } from '../../../../credentials/login-source.ts';
import { LoggedInStream } from './logged-in-stream.ts';
import { type BackendConnection, isLoginRefused, logIn } from './login.ts';
import { CHOSEN_PASSWORD } from './scram.ts';

export type ControlAddress = Pick<PostgresBackend, 'host' | 'port' | 'database' | 'tls'>;

const MOST_CONNECTIONS = 4;
const MOST_WAITING = 2000;
const CONNECT_TIMEOUT_MS = 5000;
const QUERY_TIMEOUT_MS = 15_000;
const INSUFFICIENT_PRIVILEGE = '42501';
const SETTINGS = new Map([
  ['application_name', 'writ-gateway'],
  ['client_encoding', 'UTF8'],
]);

export type ControlRow = Readonly<Record<string, unknown>>;

interface Connection {
  readonly client: pg.Client;
  readonly login: Login;
}

/**
 * A few connections, made when needed, and made anew after a failure or when their login ends. The
 * source of the login is disposed with them.
 */
export class ControlConnections implements AsyncDisposable {
  readonly #address: ControlAddress;
  readonly #source: LoginSource;
  readonly #unwatch: (() => void) | undefined;
  readonly #stop = new AbortController();
  readonly #idle: Connection[] = [];
  readonly #waiting: (() => void)[] = [];
  #busy = 0;

  constructor(address: ControlAddress, source: LoginSource) {
    this.#address = address;
    this.#source = source;
    this.#unwatch = source.onOver?.(() => this.#leaveIdle());
  }

  /**
   * Runs one statement in a transaction of its own.
   * @param onTurn called when the statement is about to be sent, after whatever wait
   * @throws Fault BACKEND_FAILED with the driver's error as cause, if the statement was sent: it may
   * have run all the same. UNAVAILABLE or RESOURCE_EXHAUSTED if it was not.
   */
  async query(
    text: string,
    values: readonly unknown[] = [],
    onTurn: () => void = () => undefined,
  ): Promise<readonly ControlRow[]> {
    await this.#takeSlot();
    try {
      for (;;) {
        const idle = this.#takeIdle();
        const connection = idle ?? (await this.#connect());
        onTurn();
        try {
          return await this.#run(connection, text, values);
        } catch (error) {
          if (!(error instanceof AccountGone)) throw error;
          if (idle === undefined) throw error.fault;
        }
      }
    } finally {
      this.#passSlotOn();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Fault('UNAVAILABLE', 'the gateway no longer serves this backend'));
    this.#unwatch?.();
    await Promise.all(this.#idle.splice(0).map(closeConnection));
    await this.#source[Symbol.asyncDispose]();
  }

  /** Those whose login is over. */
  #leaveIdle(): void {
    const over = this.#idle.filter(({ login }) => this.#source.isOver(login));
    for (const connection of over) {
      this.#forget(connection);
      void closeConnection(connection);
    }
  }

  #takeIdle(): Connection | undefined {
    for (;;) {
      const connection = this.#idle.pop();
      if (connection === undefined || !this.#source.isOver(connection.login)) return connection;
      void closeConnection(connection);
    }
  }

  async #takeSlot(): Promise<void> {
    if (this.#busy < MOST_CONNECTIONS) {
      this.#busy += 1;
      return;
    }
    if (this.#waiting.length >= MOST_WAITING) {
      throw new Fault('RESOURCE_EXHAUSTED', 'too many sessions begin or end at once: try again');
    }
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #passSlotOn(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#busy -= 1;
    else next();
  }

  async #run(
    connection: Connection,
    text: string,
    values: readonly unknown[],
  ): Promise<readonly ControlRow[]> {
    try {
      const query = { text, values: [...values] };
      const result = await connection.client.query<Record<string, unknown>>(query);
      this.#release(connection);
      return result.rows;
    } catch (error) {
      const fault = new Fault('BACKEND_FAILED', 'the backend refuses the gateway', {
        cause: error,
      });
      const isGone = await isAccountGone(connection, error);
      if (isRefusal(error) && !isGone) this.#release(connection);
      else await closeConnection(connection);
      throw isGone ? new AccountGone(fault) : fault;
    }
  }

  #release(connection: Connection): void {
    const { signal } = this.#stop;
    if (signal.aborted || this.#source.isOver(connection.login)) void closeConnection(connection);
    else this.#idle.push(connection);
  }

  async #connect(): Promise<Connection> {
    const { signal } = this.#stop;
    signal.throwIfAborted();
    try {
      return await this.#connectWithin(CONNECT_TIMEOUT_MS);
    } catch (error) {
      signal.throwIfAborted();
      throw new Fault('UNAVAILABLE', 'the gateway cannot log in to the backend', { cause: error });
    }
  }

  async #connectWithin(milliseconds: number): Promise<Connection> {
    const limit = new AbortController();
    const { signal } = this.#stop;
    const abort = () => limit.abort(signal.reason);
    signal.addEventListener('abort', abort);
    const late = new Error(`no login within ${milliseconds / 1000} s`);
    const timer = setTimeout(() => limit.abort(late), milliseconds);
    try {
      const connection = await this.#logIn(limit.signal);
      signal.throwIfAborted();
      return connection;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
    }
  }

  /** A login that the backend refuses may have been changed since it was read: it is read once more. */
  async #logIn(signal: AbortSignal): Promise<Connection> {
    const login = await this.#source.current(signal);
    try {
      return await this.#logInAs(login, signal);
    } catch (error) {
      if (!isLoginRefused(error)) throw error;
      const other = await this.#source.current(signal);
      if (other.user === login.user && other.password === login.password) throw error;
      return await this.#logInAs(other, signal);
    }
  }

  async #logInAs(login: Login, signal: AbortSignal): Promise<Connection> {
    const connected = await this.#reach(login, signal);
    const client = new pg.Client({
      stream: () => new LoggedInStream(connected),
      ...{ user: login.user, database: this.#address.database, ssl: false },
      query_timeout: QUERY_TIMEOUT_MS,
      keepAlive: true,
    });
    // A connection that dies while it waits is not used again.
    const connection = { client, login };
    const forget = this.#forget.bind(this, connection);
    client.on('error', forget).on('end', forget);
    try {
      await client.connect();
      return connection;
    } catch (error) {
      connected.socket.destroy();
      throw error;
    }
  }

  async #reach(login: Login, signal: AbortSignal): Promise<BackendConnection> {
    const { user: role, password } = login;
    try {
      const connected = await logIn({
        address: this.#address,
        ...{ database: this.#address.database, role, password, signal },
        iterations: CHOSEN_PASSWORD,
        settings: SETTINGS,
      });
      this.#source.accepted(login);
      return connected;
    } catch (error) {
      if (isLoginRefused(error)) this.#source.rejected(login);
      throw error;
    }
  }

  #forget(connection: Connection): void {
    const index = this.#idle.indexOf(connection);
    if (index >= 0) this.#idle.splice(index, 1);
  }
}

/** A statement did nothing, because the account of its connection is no more. */
class AccountGone extends Error {
  readonly fault: Fault;

  constructor(fault: Fault) {
    super(fault.message);
    this.fault = fault;
  }
}

/** A connection outlives its account: dropped by its maker, that has no rights there, and no name. */
async function isAccountGone({ client }: Connection, error: unknown): Promise<boolean> {
  if (!(error instanceof pg.DatabaseError) || error.code !== INSUFFICIENT_PRIVILEGE) return false;
  return await client.query('SELECT session_user').then(
    () => false,
    () => true,
  );
}

/** An error that the server answered with, after which the connection is as good as before. */
function isRefusal(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.severity === 'ERROR';
}

async function closeConnection({ client }: Connection): Promise<void> {
  await client.end().catch(() => undefined);
}
