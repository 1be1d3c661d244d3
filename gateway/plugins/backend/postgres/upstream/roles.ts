/**
 * The backend's roles of this gateway's sessions: one per session, which can log in once and is gone
 * with it (threats P1, P5, P6).
 *
 * What could stay behind: a role of a session that ended while the backend could not be reached, or
 * of a gateway that died. So each role has a lease in the backend, which the gateway renews while it
 * lives. Closing is repeated until the role is gone; at its start a gateway closes what it finds of
 * itself; and every gateway closes what has outlived its lease, whoever made it.
 *
 * Roles are not made in advance: CREATE ROLE is a tenth of an opening, and one more transaction for each
 * session would cost more than it. What took time was that the server tries the empty password on each
 * new verifier, iteration by iteration: see runtime/scram-verifier.ts.
 */
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import type { SpiffeId } from '../../../../../identity/spiffe-id.ts';
import type { Backend } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Backoff } from '../../../../../runtime/backoff.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import type { Logger } from '../../../../../runtime/log.ts';
import { scramVerifier } from '../../../../../runtime/scram-verifier.ts';
import { ControlConnections } from './control.ts';

export interface SessionRolesOptions {
  readonly backend: Backend;
  readonly gatewayId: SpiffeId;
  readonly log: Logger;
  readonly clock: Clock;
}

export interface OpenRoleRequest {
  /** The grant's group role, `writ_g_<16 hex>`. */
  readonly group: string;
  readonly sessionId: string;
  /** Called when the role is about to be opened, for what can be done meanwhile. */
  onTurn?(): void;
}

export interface SessionRole {
  readonly role: string;
  /** Good for one login within a minute. */
  readonly password: string;
}

const SWEEP_INTERVAL_MS = 30_000;
/** Three sweeps may fail before another gateway takes this one for dead; by the backend's clock alone. */
const LEASE = "interval '100 seconds'";
const RETRY = { firstMs: 50, maximumMs: 5000 };
const CLOSES_AT_ONCE = 4;
const STOP_TIMEOUT_MS = 3000;
const UNDEFINED_OBJECT = '42704';
/** No schema `writ` at all. */
const INVALID_SCHEMA_NAME = '3F000';
/** The functions of an older plan ask for other verifiers. */
const INVALID_PARAMETER_VALUE = '22023';
const NOT_SET_UP = new Set([UNDEFINED_OBJECT, INVALID_SCHEMA_NAME, INVALID_PARAMETER_VALUE]);
const SETUP_GRACE_MS = 3000;
const SETUP_LOOK_MS = 100;

/** Makes and ends session roles of one backend. */
export class SessionRoles implements AsyncDisposable {
  readonly #options: SessionRolesOptions;
  readonly #control: ControlConnections;
  /** Roles of sessions that this process has open or is still closing. */
  readonly #mine = new Set<string>();
  readonly #sealed = new Set<string>();
  readonly #closing = new Map<string, Promise<void>>();
  readonly #stop = new AbortController();
  #sweeping: Promise<void> | undefined;

  constructor(options: SessionRolesOptions) {
    const { type, name } = options.backend;
    if (type.case !== 'postgres') throw new Error(`${name} is no PostgreSQL backend`);
    this.#options = options;
    this.#control = new ControlConnections(type.value);
  }

  /** Begins to sweep: at once, and then each 30 s. */
  start(): void {
    this.#sweeping ??= this.#sweepUntilStopped();
  }

  /**
   * A role for one session, member of the grant's group alone.
   * @throws Fault BACKEND_FAILED, UNAVAILABLE, FAILED_PRECONDITION or RESOURCE_EXHAUSTED; no role is
   * left then
   */
  async open(request: OpenRoleRequest): Promise<SessionRole> {
    const role = `writ_${randomBytes(8).toString('hex')}`;
    const password = randomBytes(32).toString('base64url');
    const verifier = scramVerifier(password);
    this.#mine.add(role);
    try {
      await this.#openOnceSetUp([role, verifier, request.group, this.#gateway], request.onTurn);
    } catch (error) {
      // The answer may be lost and the role there: it is closed like any other.
      if (mayHaveRun(error)) void this.close(role).catch(() => undefined);
      else this.#mine.delete(role);
      this.#options.log.warn(
        { session_id: request.sessionId, backend: this.#options.backend.name, err: error },
        'opening a session role failed',
      );
      throw this.#explain(error);
    }
    return { role, password };
  }

  /** A grant that was applied a moment ago may be waiting for its setup. */
  async #openOnceSetUp(parameters: readonly string[], onTurn?: () => void): Promise<void> {
    const { clock } = this.#options;
    const end = clock.monotonicMs() + SETUP_GRACE_MS;
    for (;;) {
      try {
        await this.#control.query(
          `SELECT writ.open_session($1, $2, $3, clock_timestamp() + ${LEASE}, $4)`,
          [...parameters],
          onTurn,
        );
        return;
      } catch (error) {
        const late = clock.monotonicMs() + SETUP_LOOK_MS > end;
        if (late || sqlstate(error) !== UNDEFINED_OBJECT) throw error;
      }
      await clock.wait(SETUP_LOOK_MS, this.#stop.signal);
    }
  }

  /** To be called right after the session's login: from then on nobody can log in as the role. */
  async seal(role: string): Promise<void> {
    await this.#control.query('SELECT writ.seal_session($1)', [role]);
    this.#sealed.add(role);
  }

  /**
   * Ends the role and its backend process. Resolves when both are gone, however long the backend
   * cannot be reached; rejects only when this object is disposed before that.
   */
  close(role: string): Promise<void> {
    const under = this.#closing.get(role);
    if (under !== undefined) return under;
    const closing = this.#closeUntilGone(role).finally(() => {
      this.#closing.delete(role);
    });
    this.#closing.set(role, closing);
    return closing;
  }

  /** One sweep: renews the leases of this gateway, closes what nobody owns any more. */
  async reap(): Promise<void> {
    await this.#control.query(`SELECT writ.renew_leases($1, clock_timestamp() + ${LEASE})`, [
      this.#gateway,
    ]);
    const rows = await this.#control.query(
      `SELECT role FROM writ.list_sessions() WHERE gateway = $1 OR lease_until < clock_timestamp()`,
      [this.#gateway],
    );
    const left = rows.map((row) => String(row.role)).filter((role) => !this.#mine.has(role));
    while (left.length > 0) {
      const some = left.splice(0, CLOSES_AT_ONCE);
      await Promise.all(some.map((role) => this.#closeOrphan(role)));
    }
  }

  /** Closes what is open and waits a little for it; a lease takes care of what is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const role of this.#mine) void this.close(role).catch(() => undefined);
    const late = setTimeout(() => this.#stop.abort(), STOP_TIMEOUT_MS);
    await Promise.allSettled(this.#closing.values());
    clearTimeout(late);
    this.#stop.abort();
    await this.#sweeping;
    await this.#control[Symbol.asyncDispose]();
  }

  get #gateway(): string {
    return String(this.#options.gatewayId);
  }

  async #closeUntilGone(role: string): Promise<void> {
    const backoff = new Backoff(RETRY);
    for (;;) {
      try {
        await this.#closeOnce(role);
        this.#mine.delete(role);
        this.#sealed.delete(role);
        return;
      } catch (error) {
        this.#warn(error, 'closing a session role failed, trying again');
      }
      await this.#options.clock.wait(backoff.next(), this.#stop.signal).catch((error) => {
        throw new Fault('UNAVAILABLE', 'stopped before the role was gone', { cause: error });
      });
    }
  }

  /**
   * The role is sealed in a transaction of its own: a login that is under way when its backends are
   * counted must find it sealed.
   */
  async #closeOnce(role: string): Promise<void> {
    try {
      if (!this.#sealed.has(role)) {
        await this.#control.query('SELECT writ.seal_session($1)', [role]);
      }
    } catch (error) {
      if (sqlstate(error) !== UNDEFINED_OBJECT) throw error;
    }
    await this.#control.query('SELECT writ.close_session($1)', [role]);
  }

  async #closeOrphan(role: string): Promise<void> {
    try {
      await this.#closeOnce(role);
      this.#options.log.info({ backend: this.#options.backend.name }, 'closed an orphaned role');
    } catch (error) {
      this.#warn(error, 'closing an orphaned role failed');
    }
  }

  async #sweepUntilStopped(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#stop;
    const backoff = new Backoff(RETRY);
    while (!signal.aborted) {
      let pauseMs = SWEEP_INTERVAL_MS;
      try {
        await this.reap();
        backoff.reset();
      } catch (error) {
        if (signal.aborted) return;
        this.#warn(error, 'sweeping session roles failed');
        pauseMs = backoff.next();
      }
      await clock.wait(pauseMs, signal).catch(() => undefined);
    }
  }

  #warn(error: unknown, message: string): void {
    this.#options.log.warn({ backend: this.#options.backend.name, err: error }, message);
  }

  #explain(error: unknown): Fault {
    const state = sqlstate(error);
    if (state === undefined || !NOT_SET_UP.has(state)) return Fault.from(error);
    const { name } = this.#options.backend;
    const message = `the grant is not set up in backend ${name}: run writ backend setup again`;
    return new Fault('FAILED_PRECONDITION', message, { cause: error });
  }
}

/** Whether the statement reached the backend and no answer says that it failed there. */
function mayHaveRun(error: unknown): boolean {
  return error instanceof Fault && error.code === 'BACKEND_FAILED' && sqlstate(error) === undefined;
}

/** The SQLSTATE of an error that the server answered with and that ended its statement alone. */
function sqlstate(error: unknown): string | undefined {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof pg.DatabaseError && cause.severity === 'ERROR' ? cause.code : undefined;
}
