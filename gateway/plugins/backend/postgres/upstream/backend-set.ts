import { equals } from '@bufbuild/protobuf';
import type { SpiffeId } from '../../../../../identity/spiffe-id.ts';
import {
  type Backend,
  BackendSchema,
  type Columns,
  type PostgresBackend,
  type PostgresRights,
} from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import type { Logger } from '../../../../../runtime/log.ts';
import type { GatewaySnapshot } from '../../../../access/snapshot.ts';
import type { GatewayMetrics } from '../../../../metrics.ts';
import type { ServedBackend } from '../client/client-session.ts';
import type { OnFound } from '../masking/detectors/detectors.ts';
import { detectorGuard, GatewayEnforcement } from '../masking/gateway-enforcement.ts';
import type { Classification } from '../masking/masked-relations.ts';
import type { WireRefusal } from '../masking/wire-masking.ts';
import { StatementRecord } from '../relay/recorded-statement.ts';
import { statementDenial } from '../relay/statement-log.ts';
import { guardStatement } from '../statements/guard-statement.ts';
import { StatementReader } from '../statements/statement.ts';
import type { StatementFacts } from '../statements/statement-facts.ts';
import type { RuleName } from '../statements/statement-verdict.ts';
import { SessionRoles } from './roles.ts';

/** Fingerprints and verdicts kept for one backend. */
const STATEMENT_CACHE_BYTES = 8 * 1024 * 1024;

export interface BackendSetOptions {
  readonly gatewayId: SpiffeId;
  readonly log: Logger;
  readonly clock: Clock;
  readonly metrics: Pick<GatewayMetrics, 'detections'>;
}

interface Kept extends ServedBackend {
  readonly backend: Backend;
  readonly columns: readonly Columns[];
  readonly running: SessionRoles | GatewayEnforcement;
  readonly enforcement: GatewayEnforcement | undefined;
}

/** The PostgreSQL backends that the snapshot names: each has its session roles and its reaper. */
export class BackendSet implements AsyncDisposable {
  readonly #options: BackendSetOptions;
  readonly #served = new Map<string, Kept>();
  readonly #stopping = new Set<Promise<void>>();

  constructor(options: BackendSetOptions) {
    this.#options = options;
  }

  /** @throws Fault UNAVAILABLE */
  get(name: string): ServedBackend {
    const served = this.#served.get(name);
    if (served !== undefined) return served;
    throw new Fault('UNAVAILABLE', 'the gateway does not serve this backend now: try again');
  }

  /** Starts what the snapshot adds, stops what it no longer names or names otherwise. */
  follow(snapshot: GatewaySnapshot): void {
    for (const [name, { backend, running }] of this.#served) {
      const now = snapshot.backends.get(name);
      if (now !== undefined && equals(BackendSchema, backend, now)) continue;
      this.#served.delete(name);
      this.#stop(running);
    }
    for (const [name, backend] of snapshot.backends) {
      if (backend.type.case !== 'postgres') continue;
      try {
        this.#serve(name, backend, snapshot);
      } catch (error) {
        // One that cannot be guarded is not served; the others are.
        this.#options.log.error({ backend: name, err: error }, 'a backend cannot be served');
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { running } of this.#served.values()) this.#stop(running);
    this.#served.clear();
    await Promise.all(this.#stopping);
  }

  #stop(running: SessionRoles | GatewayEnforcement): void {
    const stopping = running[Symbol.asyncDispose]()
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
    return GatewayEnforcement.of(postgres, { ...this.#options, classification, onFound });
  }

  #onFound(backend: string): OnFound {
    const { detections } = this.#options.metrics;
    return (detector, masked) =>
      detections.inc({ backend, detector, action: masked ? 'mask' : 'alert' });
  }

  #serve(name: string, backend: Backend, snapshot: GatewaySnapshot): void {
    const columns = snapshot.columns.filter((one) => one.backend === name);
    const before = this.#served.get(name);
    if (backend.type.case !== 'postgres') return;
    const classification = { columns, classes: snapshot.columnClasses };
    const enforcement =
      before === undefined
        ? this.#enforcement(name, backend.type.value, classification)
        : before.enforcement;
    enforcement?.masking.follow(classification);
    if (before !== undefined && sameColumns(before.columns, columns)) return;
    const running =
      before?.running ?? enforcement ?? new SessionRoles({ ...this.#options, backend });
    if (before === undefined) running.start();
    const roles = running instanceof SessionRoles ? running : running.account;
    const reader = new StatementReader({
      classified: classifiedColumns(columns),
      cacheBytes: STATEMENT_CACHE_BYTES,
    });
    this.#served.set(name, {
      backend,
      columns,
      roles,
      running,
      enforcement,
      guard:
        before === undefined
          ? (enforcement?.guard ?? detectorGuard(backend.type.value, this.#onFound(name)))
          : before.guard,
      judge: (sql, { rights, hmacKey }) => {
        const facts = reader.read(sql);
        const wire = enforcement?.masking.judge({ sql, shape: facts.text }, { rights, hmacKey });
        const rule = guardStatement(facts, rights) ?? wire?.refusal;
        const record = new StatementRecord(facts, sql, hmacKey);
        return {
          class: facts.class,
          denial: rule === undefined ? undefined : denial(rule, facts, rights),
          names: facts.names,
          reach: wire?.reach,
          record: (bound) => record.of(bound),
        };
      },
    });
  }
}

/** A mistyped statement gets the SQLSTATE that the server would give. */
function denial(
  rule: RuleName | WireRefusal,
  facts: StatementFacts,
  { statements }: PostgresRights,
) {
  switch (rule) {
    case 'unreadable-statement':
      return statementDenial(rule, '42601', facts.syntaxError);
    case 'statement-too-long':
      return statementDenial(rule, '54000', 'Bind long values as parameters, or use COPY.');
    default: {
      const classes = statements.length === 0 ? 'none' : statements.join(', ');
      return statementDenial(rule, '42501', `Statement classes of the grant: ${classes}.`);
    }
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

function sameColumns(before: readonly Columns[], now: readonly Columns[]): boolean {
  return before.length === now.length && before.every((one, index) => one === now[index]);
}
