/**
 * Sessions on standbys (threats P14). A standby makes no roles: a session's role is opened on the primary
 * and used once a standby has replayed it. It ends on the standby first, because a session outlives its
 * role there, and then on the primary.
 */
import type { PostgresBackend } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Backoff } from '../../../../../runtime/backoff.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import type { Logger } from '../../../../../runtime/log.ts';
import { type LoginSource, lent } from '../../../../credentials/login-source.ts';
import { replicaHosts } from './backend-hosts.ts';
import { ControlConnections, type ControlRow } from './control.ts';
import type { PrimaryControl } from './primary.ts';

export interface StandbysOptions {
  readonly backend: PostgresBackend;
  readonly name: string;
  readonly primary: Pick<PrimaryControl, 'query'>;
  /** Stays the caller's. */
  readonly source: LoginSource;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Standby {
  /** From 1, as the backend's document lists them. */
  readonly number: number;
  readonly address: PostgresBackend;
  readonly control: ControlConnections;
}

const REPLAY_TIMEOUT_MS = 5000;
const LOOK_MS = 10;
const ANEW_MS = 100;
/** What the standby whose turn it is has ahead of the next one. */
const HEAD_START_MS = 200;
/** For the sentence about how far each is behind. */
const ANSWER_TIMEOUT_MS = 1000;
const END_TIMEOUT_MS = 5000;
const RETRY = { firstMs: 50, maximumMs: 1000 };

const STATE = `SELECT pg_catalog.pg_is_in_recovery() AS standby, r.rolcanlogin AS open,
  pg_catalog.to_regprocedure('writ.end_session(name)') IS NOT NULL AS ends
  FROM (SELECT) one LEFT JOIN pg_catalog.pg_roles r ON r.rolname = $1`;
const LAG = 'SELECT pg_catalog.pg_wal_lsn_diff($1, pg_catalog.pg_last_wal_replay_lsn()) AS bytes';

/** The standbys of one database. */
export class Standbys implements AsyncDisposable {
  readonly #options: StandbysOptions;
  readonly #standbys: readonly Standby[];
  /** By role. */
  readonly #used = new Map<string, Standby>();
  #turn = 0;

  constructor(options: StandbysOptions) {
    this.#options = options;
    this.#standbys = replicaHosts(options.backend).map((address, index) => ({
      number: index + 1,
      address,
      control: new ControlConnections(address, lent(options.source)),
    }));
  }

  /**
   * Waits until a standby has a role that was opened a moment ago.
   * @returns where that is; the role counts as used there from then on
   * @throws Fault BACKEND_FAILED, naming how far each is behind, after 5 s at the latest;
   *   FAILED_PRECONDITION if the standbys' setup is too old
   */
  async follow(role: string): Promise<PostgresBackend> {
    const standby = await this.#race(this.#inTurn(), role, (open) => open === true);
    this.#used.set(role, standby);
    return standby.address;
  }

  /** Waits until nobody can log in as the role where it is used. @throws Fault as `follow` */
  async sealed(role: string): Promise<void> {
    const standby = this.#used.get(role);
    if (standby === undefined) return;
    await this.#race([standby], role, (open) => open === false);
  }

  /**
   * Ends what a role runs where it is used, or everywhere if nobody remembers. A standby that cannot be
   * reached for 5 s, or until the signal aborts, is given up: the server ends what it runs with its
   * connection.
   */
  async end(role: string, signal: AbortSignal): Promise<void> {
    const used = this.#used.get(role);
    const where = used === undefined ? this.#standbys : [used];
    await Promise.all(where.map((standby) => this.#end(standby, role, signal)));
    this.#used.delete(role);
  }

  /** Whether a role that this process opened is used on a standby. */
  has(role: string): boolean {
    return this.#used.has(role);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#standbys.map(({ control }) => control[Symbol.asyncDispose]()));
  }

  #inTurn(): Standby[] {
    const first = this.#turn % Math.max(1, this.#standbys.length);
    this.#turn += 1;
    return [...this.#standbys.slice(first), ...this.#standbys.slice(0, first)];
  }

  async #race(
    standbys: readonly Standby[],
    role: string,
    is: (open: unknown) => boolean,
  ): Promise<Standby> {
    const { log, name } = this.#options;
    const stop = new AbortController();
    const { signal } = stop;
    const looks = standbys.map((standby, place) =>
      this.#look(standby, { role, is, afterMs: place * HEAD_START_MS, signal }),
    );
    try {
      return await Promise.race([Promise.any(looks), this.#late(signal)]);
    } catch (error) {
      log.warn({ backend: name, err: error }, 'no standby has followed the primary');
      throw notSetUp(error) ?? (await this.#behind(standbys, error));
    } finally {
      stop.abort();
    }
  }

  async #look(standby: Standby, { role, is, afterMs, signal }: Look): Promise<Standby> {
    const { clock } = this.#options;
    if (afterMs > 0) await clock.wait(afterMs, signal);
    for (;;) {
      const row = await this.#stateOf(standby, role);
      if (row === undefined) {
        await clock.wait(ANEW_MS, signal);
        continue;
      }
      if (row.standby !== true) throw new Fault('UNAVAILABLE', 'the host is no standby');
      if (is(row.open)) {
        if (row.ends !== true) throw new Fault('FAILED_PRECONDITION', NOT_SET_UP);
        return standby;
      }
      await clock.wait(LOOK_MS, signal);
    }
  }

  /** @returns undefined where nobody can log in: a standby learns of a new password late, too */
  async #stateOf({ control }: Standby, role: string): Promise<ControlRow | undefined> {
    try {
      const [row] = await control.query(STATE, [role]);
      return row;
    } catch (error) {
      if (error instanceof Fault && error.code === 'UNAVAILABLE') return undefined;
      throw error;
    }
  }

  async #late(signal: AbortSignal): Promise<never> {
    await this.#options.clock.wait(REPLAY_TIMEOUT_MS, signal);
    throw new Error(`no answer within ${REPLAY_TIMEOUT_MS} ms`);
  }

  /** What the client is told; which host it is stands in the backend's document. */
  async #behind(standbys: readonly Standby[], cause: unknown): Promise<Fault> {
    const { primary } = this.#options;
    const at = await this.#soon(
      primary.query('SELECT pg_catalog.pg_current_wal_lsn()::text AS at').then(([row]) => row?.at),
    );
    const states = await Promise.all(
      standbys.map(async ({ number, control }) => {
        const lag = await this.#soon(control.query(LAG, [at]));
        return `replica ${number} ${lagOf(lag?.[0]?.bytes)}`;
      }),
    );
    const message = `no replica has followed the primary: ${states.join(', ')}`;
    return new Fault('BACKEND_FAILED', message, { cause });
  }

  /** @returns undefined if there is no answer before long */
  async #soon<T>(answer: Promise<T>): Promise<T | undefined> {
    const stop = new AbortController();
    const late = this.#options.clock.wait(ANSWER_TIMEOUT_MS, stop.signal).catch(() => undefined);
    const given = await Promise.race([answer.catch(() => undefined), late]);
    stop.abort();
    return given ?? undefined;
  }

  async #end({ number, control }: Standby, role: string, signal: AbortSignal): Promise<void> {
    const { clock, log, name } = this.#options;
    const backoff = new Backoff(RETRY);
    const end = clock.monotonicMs() + END_TIMEOUT_MS;
    for (;;) {
      try {
        await control.query('SELECT writ.end_session($1)', [role]);
        return;
      } catch (error) {
        const pauseMs = backoff.next();
        if (signal.aborted || clock.monotonicMs() + pauseMs > end) {
          log.warn(
            { backend: name, replica: number, err: error },
            'ending a session on a standby failed',
          );
          return;
        }
        await clock.wait(pauseMs, signal).catch(() => undefined);
      }
    }
  }
}

interface Look {
  readonly role: string;
  /** @param open whether the role can log in; null if it is not there */
  is(open: unknown): boolean;
  readonly afterMs: number;
  readonly signal: AbortSignal;
}

const NOT_SET_UP = 'the functions for replicas are not set up: run writ backend setup again';

function notSetUp(error: unknown): Fault | undefined {
  if (!(error instanceof AggregateError)) return undefined;
  const errors: readonly unknown[] = error.errors;
  return errors.find(
    (one): one is Fault => one instanceof Fault && one.code === 'FAILED_PRECONDITION',
  );
}

/** @param bytes NULL where nothing is replayed; undefined if there was no answer */
function lagOf(bytes: unknown): string {
  if (bytes === undefined) return 'does not answer';
  return bytes === null ? 'is no standby' : `is ${bytes} bytes behind`;
}
