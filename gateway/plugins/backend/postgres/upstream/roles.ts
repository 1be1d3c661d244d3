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
import type { SpiffeId } from '../../../../../identity/spiffe-id.ts';
import type {
  Backend,
  PostgresBackend,
} from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Backoff } from '../../../../../runtime/backoff.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import type { Logger } from '../../../../../runtime/log.ts';
import { scramVerifier } from '../../../../../runtime/scram-verifier.ts';
import type { LoginSource } from '../../../../credentials/login-source.ts';
import { type LeaseNames, leaseNames, type Peers } from '../../../../workers/peers.ts';
import { PrimaryControl } from './primary.ts';
import { sqlstateOf } from './sqlstate.ts';
import { Standbys } from './standbys.ts';

export interface SessionRolesOptions {
  readonly backend: Backend;
  /** Releases a role in the other databases of the server (threats P6). */
  releaseElsewhere?(role: string): Promise<unknown>;
  /** Of the gateway's own login, for all of them; disposed with the roles. */
  readonly source: LoginSource;
  readonly gatewayId: SpiffeId;
  /** Which process of the gateway this is. */
  readonly peers?: Pick<Peers, 'index' | 'count'>;
  readonly log: Logger;
  readonly clock: Clock;
}

export interface OpenRoleRequest {
  /** The grant's group role, `writ_g_<16 hex>`. */
  readonly group: string;
  readonly sessionId: string;
  /** Until the session's end: nobody can log in as the role after it. */
  readonly lifeMs?: number;
  /** Whether the session is to be on a standby. */
  readonly replica?: boolean;
  /**
   * Called when the role is about to be opened where the session will be, for what can be done
   * meanwhile. A later call stands for a host that is the primary in place of the first.
   */
  onTurn?(address: PostgresBackend): void;
}

export interface SessionRole {
  readonly role: string;
  /** Good for one login within a minute. */
  readonly password: string;
  /** Where the role is to be used. */
  readonly address: PostgresBackend;
}

const SWEEP_INTERVAL_MS = 30_000;
/** Three sweeps may fail before another gateway takes this one for dead; by the backend's clock alone. */
const LEASE = "interval '100 seconds'";
const LONGEST_LIFE_MS = 100_000;
/**
 * In front of what makes and ends roles: the transaction takes effect at once, and its record reaches
 * the disk within a second. A crash of the database in that second ends all sessions anyway; a role that
 * it brings back has a password that nobody else knows, and the next sweep ends it.
 */
const UNSYNCED = "set_config('synchronous_commit', 'off', true)";
/** A standby gets what is on the primary's disk. */
const SYNCED = "set_config('synchronous_commit', 'local', true)";
const RETRY = { firstMs: 50, maximumMs: 5000 };
const CLOSES_AT_ONCE = 4;
const STOP_TIMEOUT_MS = 3000;
const UNDEFINED_OBJECT = '42704';
const DEPENDENT_OBJECTS = '2BP01';
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
  readonly #control: PrimaryControl;
  readonly #standbys: Standbys;
  /** Roles of sessions that this process has open or is still closing. */
  readonly #mine = new Set<string>();
  readonly #sealed = new Set<string>();
  readonly #closing = new Map<string, Promise<void>>();
  readonly #names: LeaseNames;
  readonly #stop = new AbortController();
  #sweeping: Promise<void> | undefined;

  constructor(options: SessionRolesOptions) {
    const { type, name } = options.backend;
    if (type.case !== 'postgres') throw new Error(`${name} is no PostgreSQL backend`);
    this.#options = options;
    this.#names = leaseNames(String(options.gatewayId), options.peers);
    const { clock, log, source } = options;
    this.#control = new PrimaryControl(type.value, source);
    this.#standbys = new Standbys({
      backend: type.value,
      primary: this.#control,
      ...{ name, source, clock, log },
    });
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
    let opened = false;
    try {
      const life = `${request.lifeMs ?? LONGEST_LIFE_MS} milliseconds`;
      const wish = [role, verifier, request.group, this.#gateway, life];
      if (request.replica === true) {
        await this.#openOnceSetUp(wish, SYNCED);
        opened = true;
        return { role, password, address: await this.#standbys.follow(role) };
      }
      const address = await this.#openOnceSetUp(wish, UNSYNCED, request.onTurn);
      return { role, password, address };
    } catch (error) {
      // The answer may be lost and the role there: it is closed like any other.
      if (opened || mayHaveRun(error)) void this.close(role).catch(() => undefined);
      else this.#mine.delete(role);
      this.#options.log.warn(
        { session_id: request.sessionId, backend: this.#options.backend.name, err: error },
        'opening a session role failed',
      );
      throw this.#explain(error);
    }
  }

  /** A grant that was applied a moment ago may be waiting for its setup. */
  async #openOnceSetUp(
    parameters: readonly string[],
    durability: string,
    onTurn?: (address: PostgresBackend) => void,
  ): Promise<PostgresBackend> {
    const { clock } = this.#options;
    const end = clock.monotonicMs() + SETUP_GRACE_MS;
    let at: PostgresBackend | undefined;
    for (;;) {
      try {
        await this.#control.query(
          `SELECT ${durability}, writ.open_session($1, $2, $3, clock_timestamp() + least(${LEASE}, $5::interval), $4)`,
          [...parameters],
          (address) => {
            at = address;
            onTurn?.(address);
          },
        );
        if (at === undefined) throw new Error('a statement ran nowhere');
        return at;
      } catch (error) {
        const late = clock.monotonicMs() + SETUP_LOOK_MS > end;
        if (late || sqlstateOf(error) !== UNDEFINED_OBJECT) throw error;
      }
      await clock.wait(SETUP_LOOK_MS, this.#stop.signal);
    }
  }

  /** To be called right after the session's login: from then on nobody can log in as the role. */
  async seal(role: string): Promise<void> {
    const durability = this.#standbys.has(role) ? SYNCED : UNSYNCED;
    await this.#control.query(`SELECT ${durability}, writ.seal_session($1)`, [role]);
    this.#sealed.add(role);
    await this.#standbys.sealed(role);
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

  /** Reads what every login may read of the database's catalog. @throws Fault as `ControlConnections.query` */
  catalog(
    text: string,
    values: readonly unknown[] = [],
  ): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return this.#control.query(text, values);
  }

  /** Drops what a session role of another database of this server owns in this one. */
  async release(role: string): Promise<void> {
    await this.#control.query('SELECT writ.release_session($1)', [role]);
  }

  /** One sweep: renews the leases of this gateway, closes what nobody owns any more. */
  async reap(): Promise<void> {
    await this.#control.query(`SELECT writ.renew_leases($1, clock_timestamp() + ${LEASE})`, [
      this.#gateway,
    ]);
    const rows = await this.#control.query(
      'SELECT role, gateway, lease_until < clock_timestamp() AS lapsed FROM writ.list_sessions()',
    );
    const left = rows
      .filter(({ gateway, lapsed }) => lapsed === true || this.#names.isOurs(String(gateway)))
      .map(({ role }) => String(role))
      .filter((role) => !this.#mine.has(role));
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
    const controls = [this.#control, this.#standbys];
    await Promise.all(controls.map((control) => control[Symbol.asyncDispose]()));
    await this.#options.source[Symbol.asyncDispose]();
  }

  get #gateway(): string {
    return this.#names.own;
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

  /** A primary that cannot be reached holds up the end of no session on a standby. */
  async #closeOnce(role: string): Promise<void> {
    const first: Promise<void>[] = [];
    if (!this.#sealed.has(role)) first.push(this.#seal(role));
    if (this.#standbys.has(role) || !this.#mine.has(role))
      first.push(this.#standbys.end(role, this.#stop.signal));
    if (first.length > 0) await Promise.all(first);
    try {
      await this.#control.query(`SELECT ${UNSYNCED}, writ.close_session($1)`, [role]);
    } catch (error) {
      if (sqlstateOf(error) !== DEPENDENT_OBJECTS) throw error;
      await this.#options.releaseElsewhere?.(role);
      await this.#control.query(`SELECT ${UNSYNCED}, writ.close_session($1)`, [role]);
    }
  }

  /**
   * In a transaction of its own: a login that is under way when the role's backends are counted must
   * find it sealed.
   */
  async #seal(role: string): Promise<void> {
    try {
      await this.#control.query(`SELECT ${UNSYNCED}, writ.seal_session($1)`, [role]);
    } catch (error) {
      if (sqlstateOf(error) !== UNDEFINED_OBJECT) throw error;
    }
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
    const state = sqlstateOf(error);
    if (state === undefined || !NOT_SET_UP.has(state)) return Fault.from(error);
    const { name } = this.#options.backend;
    const message = `the grant is not set up in backend ${name}: run writ backend setup again`;
    return new Fault('FAILED_PRECONDITION', message, { cause: error });
  }
}

/** Whether the statement reached the backend and no answer says that it failed there. */
function mayHaveRun(error: unknown): boolean {
  return (
    error instanceof Fault && error.code === 'BACKEND_FAILED' && sqlstateOf(error) === undefined
  );
}
