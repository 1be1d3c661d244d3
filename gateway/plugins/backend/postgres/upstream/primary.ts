/**
 * The gateway's own connections to whichever of a backend's hosts is its primary now.
 *
 * A standby takes no session role, so a host counts as the primary if it is not in recovery; the first
 * one that does is kept until it fails. Two such hosts at once are for the operator's fencing to prevent.
 */
import type { PostgresBackend } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import { type LoginSource, lent } from '../../../../credentials/login-source.ts';
import { primaryHosts } from './backend-hosts.ts';
import { ControlConnections, type ControlRow } from './control.ts';
import { sqlstateOf } from './sqlstate.ts';

const READ_ONLY_TRANSACTION = '25006';

interface Host {
  readonly address: PostgresBackend;
  readonly control: ControlConnections;
  /** Whether it was seen to be the primary, and nothing has spoken against that since. */
  isPrimary: boolean;
}

export class PrimaryControl implements AsyncDisposable {
  readonly #hosts: readonly Host[];
  /** The last that was the primary. */
  #current: Host | undefined;

  /** @param source stays the caller's */
  constructor(backend: PostgresBackend, source: LoginSource) {
    this.#hosts = primaryHosts(backend).map((address) => ({
      address,
      control: new ControlConnections(address, lent(source)),
      isPrimary: false,
    }));
  }

  /**
   * Runs one statement on the primary, in a transaction of its own.
   * @param onTurn called when the statement is about to be sent, with where to: the last call counts
   * @throws Fault as `ControlConnections.query`; UNAVAILABLE if none of several hosts is the primary
   */
  async query(
    text: string,
    values: readonly unknown[] = [],
    onTurn: (address: PostgresBackend) => void = () => undefined,
  ): Promise<readonly ControlRow[]> {
    const failures: unknown[] = [];
    for (const host of this.#candidates()) {
      try {
        await this.#requirePrimary(host);
        const rows = await host.control.query(text, values, () => onTurn(host.address));
        this.#current = host;
        return rows;
      } catch (error) {
        if (!isRefusal(error)) host.isPrimary = false;
        if (this.#hosts.length === 1 || !wasNotRun(error)) throw error;
        failures.push(error);
      }
    }
    const cause = new AggregateError(failures, 'no host is the primary');
    throw new Fault('UNAVAILABLE', 'none of the hosts of the backend is its primary now', {
      cause,
    });
  }

  /** Where the primary is. @throws Fault as `query` */
  async locate(): Promise<PostgresBackend> {
    const [only, ...others] = this.#hosts;
    if (only !== undefined && others.length === 0) return only.address;
    let found: PostgresBackend | undefined;
    await this.query('SELECT', [], (address) => {
      found = address;
    });
    if (found === undefined) throw new Error('a statement ran nowhere');
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#hosts.map(({ control }) => control[Symbol.asyncDispose]()));
  }

  #candidates(): readonly Host[] {
    const current = this.#current;
    if (current === undefined) return this.#hosts;
    return [current, ...this.#hosts.filter((host) => host !== current)];
  }

  async #requirePrimary(host: Host): Promise<void> {
    if (host.isPrimary || this.#hosts.length === 1) return;
    const [row] = await host.control.query('SELECT pg_catalog.pg_is_in_recovery() AS standby');
    if (row?.standby !== false) throw new Fault('UNAVAILABLE', 'the host is a standby');
    host.isPrimary = true;
  }
}

/** Nothing changed there, so that another host may be tried. */
function wasNotRun(error: unknown): boolean {
  if (!(error instanceof Fault)) return false;
  return error.code === 'UNAVAILABLE' || sqlstateOf(error) === READ_ONLY_TRANSACTION;
}

/** The server's own verdict on the statement, which says nothing against the host. */
function isRefusal(error: unknown): boolean {
  const state = sqlstateOf(error);
  return state !== undefined && state !== READ_ONLY_TRANSACTION;
}
