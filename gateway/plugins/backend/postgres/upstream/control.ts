/**
 * The gateway's own connections to a backend, as the login that can call the functions of
 * `writ backend setup` and nothing else. Clients' sessions never run over them.
 */
import { readFile } from 'node:fs/promises';
import { type ConnectionOptions, checkServerIdentity } from 'node:tls';
import pg from 'pg';
import type { PostgresBackend } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import { isThisHost } from './dial.ts';
import { trustedContext } from './trusted-context.ts';

export type ControlAddress = Pick<
  PostgresBackend,
  'host' | 'port' | 'database' | 'loginUser' | 'loginPasswordFile' | 'tls'
>;

const MOST_CONNECTIONS = 4;
const MOST_WAITING = 2000;
const CONNECT_TIMEOUT_MS = 5000;
const QUERY_TIMEOUT_MS = 15_000;

export type ControlRow = Readonly<Record<string, unknown>>;

/** A few connections, made when needed and made anew after a failure. */
export class ControlConnections implements AsyncDisposable {
  readonly #address: ControlAddress;
  readonly #idle: pg.Client[] = [];
  readonly #waiting: (() => void)[] = [];
  #busy = 0;
  #closed = false;

  constructor(address: ControlAddress) {
    this.#address = address;
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
      const client = this.#idle.pop() ?? (await this.#connect());
      onTurn();
      return await this.#run(client, text, values);
    } finally {
      this.#passSlotOn();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#idle.splice(0).map(closeClient));
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
    client: pg.Client,
    text: string,
    values: readonly unknown[],
  ): Promise<readonly ControlRow[]> {
    try {
      const result = await client.query<Record<string, unknown>>({ text, values: [...values] });
      this.#release(client);
      return result.rows;
    } catch (error) {
      if (isRefusal(error)) this.#release(client);
      else await closeClient(client);
      throw new Fault('BACKEND_FAILED', 'the backend refuses the gateway', { cause: error });
    }
  }

  #release(client: pg.Client): void {
    if (this.#closed) void closeClient(client);
    else this.#idle.push(client);
  }

  async #connect(): Promise<pg.Client> {
    if (this.#closed) throw new Fault('UNAVAILABLE', 'the gateway no longer serves this backend');
    let client: pg.Client | undefined;
    try {
      client = new pg.Client(await clientConfig(this.#address));
      // A connection that dies while it waits is not used again.
      const forget = this.#forget.bind(this, client);
      client.on('error', forget).on('end', forget);
      await client.connect();
      return client;
    } catch (error) {
      if (client !== undefined) await closeClient(client);
      throw new Fault('UNAVAILABLE', 'the gateway cannot log in to the backend', { cause: error });
    }
  }

  #forget(client: pg.Client): void {
    const index = this.#idle.indexOf(client);
    if (index >= 0) this.#idle.splice(index, 1);
  }
}

/** Files are read at each login, so that a new password or CA needs no restart. */
async function clientConfig(address: ControlAddress): Promise<pg.ClientConfig> {
  const { host, port, database, loginUser, loginPasswordFile, tls } = address;
  if (tls === undefined && !isThisHost(host)) {
    throw new Error('the backend is not on this host and names no TLS settings');
  }
  return {
    host,
    port,
    database,
    user: loginUser,
    password: (await readFile(loginPasswordFile, 'utf8')).replace(/\r?\n$/, ''),
    ssl: tls === undefined ? false : await verifyFull(tls),
    application_name: 'writ-gateway',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
    keepAlive: true,
  };
}

async function verifyFull(tls: NonNullable<ControlAddress['tls']>): Promise<ConnectionOptions> {
  return {
    secureContext: trustedContext(await readFile(tls.caFile, 'utf8')),
    rejectUnauthorized: true,
    // The driver would check the certificate for the host that it dials.
    checkServerIdentity: (_host, certificate) => checkServerIdentity(tls.serverName, certificate),
  };
}

/** An error that the server answered with, after which the connection is as good as before. */
function isRefusal(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.severity === 'ERROR';
}

async function closeClient(client: pg.Client): Promise<void> {
  await client.end().catch(() => undefined);
}
