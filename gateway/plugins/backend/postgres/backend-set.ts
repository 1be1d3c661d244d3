import { equals } from '@bufbuild/protobuf';
import type { SpiffeId } from '../../../../identity/spiffe-id.ts';
import {
  type Backend,
  BackendSchema,
  type Columns,
  type PostgresRights,
} from '../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../../../runtime/clock.ts';
import { Fault } from '../../../../runtime/fault.ts';
import type { Logger } from '../../../../runtime/log.ts';
import type { GatewaySnapshot } from '../../../access/snapshot.ts';
import type { ServedBackend } from './client-session.ts';
import { guardStatement } from './guard-statement.ts';
import { StatementRecord } from './recorded-statement.ts';
import { SessionRoles } from './roles.ts';
import { StatementReader } from './statement.ts';
import type { StatementFacts } from './statement-facts.ts';
import { statementDenial } from './statement-log.ts';
import type { RuleName } from './statement-rules.ts';

/** Fingerprints and verdicts kept for one backend. */
const STATEMENT_CACHE_BYTES = 8 * 1024 * 1024;

export interface BackendSetOptions {
  readonly gatewayId: SpiffeId;
  readonly log: Logger;
  readonly clock: Clock;
}

interface Kept extends ServedBackend {
  readonly backend: Backend;
  readonly columns: readonly Columns[];
  readonly roles: SessionRoles;
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
    for (const [name, { backend, roles }] of this.#served) {
      const now = snapshot.backends.get(name);
      if (now !== undefined && equals(BackendSchema, backend, now)) continue;
      this.#served.delete(name);
      this.#stop(roles);
    }
    for (const [name, backend] of snapshot.backends) {
      if (backend.type.case === 'postgres') this.#serve(name, backend, snapshot.columns);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { roles } of this.#served.values()) this.#stop(roles);
    this.#served.clear();
    await Promise.all(this.#stopping);
  }

  #stop(roles: SessionRoles): void {
    const stopping = roles[Symbol.asyncDispose]()
      .catch((error: unknown) => {
        this.#options.log.error({ err: error }, 'stopping session roles failed');
      })
      .finally(() => this.#stopping.delete(stopping));
    this.#stopping.add(stopping);
  }

  #serve(name: string, backend: Backend, allColumns: readonly Columns[]): void {
    const columns = allColumns.filter((one) => one.backend === name);
    const before = this.#served.get(name);
    if (before !== undefined && sameColumns(before.columns, columns)) return;
    const roles = before?.roles ?? new SessionRoles({ ...this.#options, backend });
    if (before === undefined) roles.start();
    const reader = new StatementReader({
      classified: classifiedColumns(columns),
      cacheBytes: STATEMENT_CACHE_BYTES,
    });
    this.#served.set(name, {
      backend,
      columns,
      roles,
      judge: (sql, { rights, hmacKey }) => {
        const facts = reader.read(sql);
        const rule = guardStatement(facts, rights);
        const record = new StatementRecord(facts, sql, hmacKey);
        return {
          class: facts.class,
          denial: rule === undefined ? undefined : denial(rule, facts, rights),
          names: facts.names,
          record: (bound) => record.of(bound),
        };
      },
    });
  }
}

/** A mistyped statement gets the SQLSTATE that the server would give. */
function denial(rule: RuleName, facts: StatementFacts, { statements }: PostgresRights) {
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
