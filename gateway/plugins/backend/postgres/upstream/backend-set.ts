import { equals } from '@bufbuild/protobuf';
import type { SpiffeId } from '../../../../../identity/spiffe-id.ts';
import {
  type Backend,
  BackendSchema,
  type Columns,
  type PostgresBackend,
} from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import type { Logger } from '../../../../../runtime/log.ts';
import type { GatewaySnapshot } from '../../../../access/snapshot.ts';
import type { LoginSource } from '../../../../credentials/login-source.ts';
import { type LoginParts, loginSource } from '../../../../credentials/login-sources.ts';
import type { GatewayMetrics } from '../../../../metrics.ts';
import type { Peers } from '../../../../workers/peers.ts';
import type { ServedBackend } from '../client/served-backend.ts';
import { SettingRules } from '../client/setting-rules.ts';
import type { OnFound } from '../masking/detectors/detectors.ts';
import { databaseGuard, GatewayEnforcement } from '../masking/gateway-enforcement.ts';
import type { Classification } from '../masking/masked-relations.ts';
import { SecondWall } from '../masking/second-wall.ts';
import { StatementReader } from '../statements/statement.ts';
import { StatementJudge } from '../statements/statement-judge.ts';
import { StatementWorkers } from '../statements/statement-workers.ts';
import { type DatabaseBackend, databasesOf } from './backend-hosts.ts';
import { SessionRoles } from './roles.ts';

/** Fingerprints and verdicts kept for one backend. */
const STATEMENT_CACHE_BYTES = 8 * 1024 * 1024;

export interface BackendSetOptions extends LoginParts {
  readonly gatewayId: SpiffeId;
  readonly peers?: Peers;
  readonly log: Logger;
  readonly clock: Clock;
  readonly metrics: Pick<GatewayMetrics, 'detections'>;
}

interface Kept extends ServedBackend {
  readonly backend: Backend;
  readonly columns: readonly Columns[];
  readonly running: SessionRoles | GatewayEnforcement;
  readonly enforcement: GatewayEnforcement | undefined;
  readonly wall: SecondWall | undefined;
}

/**
 * The PostgreSQL backends that the snapshot names: each of their databases has its session roles and its
 * reaper.
 */
export class BackendSet implements AsyncDisposable {
  readonly #options: BackendSetOptions;
  /** By name and database. */
  readonly #served = new Map<string, Kept>();
  readonly #stopping = new Set<Promise<void>>();
  readonly #workers = new StatementWorkers();

  constructor(options: BackendSetOptions) {
    this.#options = options;
  }

  /** @throws Fault UNAVAILABLE */
  get(name: string, database: string): ServedBackend {
    const served = this.#served.get(keyOf(name, database));
    if (served !== undefined) return served;
    throw new Fault('UNAVAILABLE', 'the gateway does not serve this backend now: try again');
  }

  /** Starts what the snapshot adds, stops what it no longer names or names otherwise. */
  follow(snapshot: GatewaySnapshot): void {
    const wanted = new Map<string, DatabaseBackend>();
    for (const [name, backend] of snapshot.backends) {
      for (const [database, one] of databasesOf(backend)) wanted.set(keyOf(name, database), one);
    }
    for (const [key, served] of this.#served) {
      const now = wanted.get(key);
      if (now !== undefined && equals(BackendSchema, served.backend, now.backend)) continue;
      this.#served.delete(key);
      this.#stop(served);
    }
    for (const [key, one] of wanted) {
      try {
        this.#serve(key, one, snapshot);
      } catch (error) {
        // One that cannot be guarded is not served; the others are.
        const { name } = one.backend;
        this.#options.log.error({ backend: name, err: error }, 'a backend cannot be served');
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const served of this.#served.values()) this.#stop(served);
    this.#served.clear();
    await Promise.all(this.#stopping);
    await this.#workers[Symbol.asyncDispose]();
  }

  #stop({ running, wall }: Pick<Kept, 'running' | 'wall'>): void {
    const stopping = Promise.all([wall?.[Symbol.asyncDispose](), running[Symbol.asyncDispose]()])
      .then(() => undefined)
      .catch((error: unknown) => {
        this.#options.log.error({ err: error }, 'stopping session roles failed');
      })
      .finally(() => this.#stopping.delete(stopping));
    this.#stopping.add(stopping);
  }

  #enforcement(
    backend: string,
    postgres: PostgresBackend,
    classification: Classification,
  ): GatewayEnforcement | undefined {
    const onFound = this.#onFound(backend);
    const source = this.#login(backend, postgres);
    return GatewayEnforcement.of(postgres, { ...this.#options, source, classification, onFound });
  }

  /** Behind masked views; where the gateway itself masks there is none. */
  #wall(
    running: SessionRoles | GatewayEnforcement,
    classification: Classification,
  ): SecondWall | undefined {
    if (!(running instanceof SessionRoles)) return undefined;
    const { clock, log } = this.#options;
    const wall = new SecondWall({
      query: (text, values) => running.catalog(text, values),
      ...{ classification, clock, log },
    });
    wall.start();
    return wall;
  }

  #login(backend: string, postgres: PostgresBackend): LoginSource {
    return loginSource({ name: backend }, postgres, this.#options);
  }

  /** In the backend's databases but the one of `key`, as far as they can be reached. */
  async #releaseElsewhere(key: string, name: string, role: string): Promise<void> {
    const others = [...this.#served].filter(
      ([other, { backend }]) => other !== key && backend.name === name,
    );
    await Promise.allSettled(
      others.map(([, { running }]) => running instanceof SessionRoles && running.release(role)),
    );
  }

  #onFound(backend: string): OnFound {
    const { detections } = this.#options.metrics;
    return (detector, masked) =>
      detections.inc({ backend, detector, action: masked ? 'mask' : 'alert' });
  }

  #serve(key: string, { backend, postgres }: DatabaseBackend, snapshot: GatewaySnapshot): void {
    const { name } = backend;
    const columns = snapshot.columns.filter((one) => one.backend === name);
    const before = this.#served.get(key);
    const classification = { columns, classes: snapshot.columnClasses };
    const enforcement =
      before === undefined ? this.#enforcement(name, postgres, classification) : before.enforcement;
    enforcement?.masking.follow(classification);
    before?.wall?.follow(classification);
    if (before !== undefined && sameColumns(before.columns, columns)) return;
    const running =
      before?.running ??
      enforcement ??
      new SessionRoles({
        ...this.#options,
        source: this.#login(name, postgres),
        backend,
        releaseElsewhere: (role) => this.#releaseElsewhere(key, name, role),
      });
    const wall = before === undefined ? this.#wall(running, classification) : before.wall;
    if (before === undefined) running.start();
    const roles = running instanceof SessionRoles ? running : running.account;
    const classified = classifiedColumns(columns);
    const judge = new StatementJudge({
      reader: new StatementReader({ classified, cacheBytes: STATEMENT_CACHE_BYTES }),
      workers: this.#workers,
      classified: [...classified.values()].flatMap((some) => [...some]),
      settings: new SettingRules(postgres),
      masking: enforcement?.masking,
    });
    this.#served.set(key, {
      backend,
      postgres,
      columns,
      roles,
      running,
      enforcement,
      wall,
      guard:
        before === undefined
          ? (enforcement?.guard ?? databaseGuard(postgres, { wall, onFound: this.#onFound(name) }))
          : before.guard,
      judge: (sql, grant) => judge.judge(sql, grant),
      judgeLong: (text, grant, signal) => judge.judgeLong(text, grant, signal),
    });
  }
}

/** `schema.table` to the names of its classified columns. */
function classifiedColumns(columns: readonly Columns[]): ReadonlyMap<string, ReadonlySet<string>> {
  const classified = new Map<string, Set<string>>();
  for (const { table, columns: named } of columns.flatMap((one) => one.tables)) {
    const known = classified.get(table) ?? new Set();
    for (const column of Object.keys(named)) known.add(column);
    classified.set(table, known);
  }
  return classified;
}

/** Names of backends and databases have no slash. */
function keyOf(name: string, database: string): string {
  return `${name}/${database}`;
}

function sameColumns(before: readonly Columns[], now: readonly Columns[]): boolean {
  return before.length === now.length && before.every((one, index) => one === now[index]);
}
