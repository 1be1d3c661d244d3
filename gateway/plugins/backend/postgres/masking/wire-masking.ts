import { createHmac, randomBytes } from 'node:crypto';
import { equals, type MessageShape } from '@bufbuild/protobuf';
import {
  ColumnClassSchema,
  ColumnsSchema,
  type PostgresRights,
} from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import type { Logger } from '../../../../../runtime/log.ts';
import { parseStatements } from '../statements/parser.ts';
import { nodeOf } from '../statements/statement-tree.ts';
import { isGranted } from './granted-relations.ts';
import { type CatalogQuery, type Classification, MaskedRelations } from './masked-relations.ts';
import type { RelationRules, ResultRules } from './result-plan.ts';
import { reachOf, type StatementReach, UNKNOWN_REACH, type WireRule } from './statement-reach.ts';

/** Why the gateway refuses a statement where it alone enforces. */
export type WireRefusal =
  | WireRule
  | 'relation-not-granted'
  | 'exception-expired'
  | 'statement-not-served';

export interface WireJudgement {
  readonly reach: StatementReach;
  readonly refusal: WireRefusal | undefined;
}

export interface WireMaskingOptions {
  readonly query: CatalogQuery;
  readonly classification: Classification;
  /** When the backend's exception ends. */
  readonly expiresAt: Date;
  readonly clock: Clock;
  readonly log: Logger;
}

const REFRESH_INTERVAL_MS = 10_000;
/** What a statement asks for anew, at most this often. */
const REFRESH_AT_ONCE_MS = 1000;
const MOST_REMEMBERED = 5000;
const LONGEST_REMEMBERED = 8192;
const SERVED: ReadonlySet<string> = new Set([
  ...['SelectStmt', 'InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt', 'CopyStmt'],
  ...['PrepareStmt', 'ExecuteStmt', 'DeallocateStmt', 'DeclareCursorStmt', 'FetchStmt'],
  ...['ClosePortalStmt', 'ExplainStmt', 'TransactionStmt', 'VariableSetStmt', 'VariableShowStmt'],
  ...['DiscardStmt', 'ConstraintsSetStmt'],
]);
const BY_PLACE = /\border\s+by\b/i;

/** Masks and judges for one backend whose database does not (enforce: gateway). */
export class WireMasking implements AsyncDisposable {
  readonly #options: WireMaskingOptions;
  readonly #stop = new AbortController();
  readonly #remembered = new Map<string, WireJudgement>();
  readonly rules: ResultRules;
  #classification: Classification;
  #hashKey: Uint8Array = randomBytes(32);
  #keyOfHashKey: Uint8Array | undefined;
  #relations: MaskedRelations | undefined;
  #reading: Promise<void> | undefined;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<void> | undefined;

  constructor(options: WireMaskingOptions) {
    this.#options = options;
    this.#classification = options.classification;
    this.rules = {
      hashKey: (): Uint8Array => this.#hashKey,
      relation: (oid): RelationRules | 'open' | undefined => this.#relations?.relation(oid),
      outdated: () => this.#readSoon(),
    };
  }

  /** Reads the catalog now and then. */
  start(): void {
    this.#refreshing ??= this.#refreshUntilStopped();
  }

  /** Waits until the catalog has been read once. @throws what reading it throws */
  async ready(): Promise<void> {
    if (this.#relations === undefined) await this.#read();
  }

  /** Other classes hold from now on, for live sessions too. */
  follow(classification: Classification): void {
    if (sameClassification(classification, this.#classification)) return;
    this.#classification = classification;
    this.#readAgain();
  }

  /**
   * @param text.shape the statement's text without its literals; empty if there is none
   * @param grant.hmacKey the gateway's; the key of hashes is derived from it
   */
  judge(
    { sql, shape }: { sql: string; shape: string },
    { rights, hmacKey }: { rights: PostgresRights; hmacKey: Uint8Array },
  ): WireJudgement {
    if (hmacKey !== this.#keyOfHashKey) {
      this.#keyOfHashKey = hmacKey;
      this.#hashKey = createHmac('sha256', hmacKey).update('mask of results').digest();
    }
    const relations = this.#relations;
    const { clock, expiresAt } = this.#options;
    if (relations === undefined) return { reach: UNKNOWN_REACH, refusal: 'exception-expired' };
    if (clock.now() >= expiresAt) return { reach: UNKNOWN_REACH, refusal: 'exception-expired' };
    // ORDER BY 2 and ORDER BY 3 differ in a literal, and in what they tell.
    const text = BY_PLACE.test(shape) ? sql : shape;
    const key = text === '' ? '' : `${rights.groupRole} ${text}`;
    const known = this.#remembered.get(key);
    if (known !== undefined) return known;
    const judgement = read(sql, rights, relations);
    if (judgement.reach.touches || judgement.refusal !== undefined) this.#readSoon();
    if (key === '' || key.length > LONGEST_REMEMBERED) return judgement;
    if (this.#remembered.size >= MOST_REMEMBERED) this.#remembered.clear();
    this.#remembered.set(key, judgement);
    return judgement;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#refreshing;
    await this.#reading?.catch(() => undefined);
  }

  async #refreshUntilStopped(): Promise<void> {
    const { clock, log } = this.#options;
    while (!this.#stop.signal.aborted) {
      await this.#read().catch((error: unknown) => {
        log.warn({ err: error }, 'reading the catalog for masks failed');
      });
      await clock.wait(REFRESH_INTERVAL_MS, this.#stop.signal).catch(() => undefined);
    }
  }

  #readSoon(): void {
    if (this.#options.clock.monotonicMs() - this.#readAtMs < REFRESH_AT_ONCE_MS) return;
    this.#read().catch(() => undefined);
  }

  /** After the reading that is under way, which began before. */
  #readAgain(): void {
    const after = this.#reading ?? Promise.resolve();
    const { log } = this.#options;
    after
      .catch(() => undefined)
      .then(() => this.#read())
      .catch((error: unknown) => log.warn({ err: error }, 'reading the catalog for masks failed'));
  }

  #read(): Promise<void> {
    this.#reading ??= this.#readNow().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #readNow(): Promise<void> {
    const { query, clock } = this.#options;
    this.#readAtMs = clock.monotonicMs();
    this.#relations = await MaskedRelations.read(query, this.#classification);
    this.#remembered.clear();
  }
}

function read(sql: string, rights: PostgresRights, relations: MaskedRelations): WireJudgement {
  let statements: readonly unknown[];
  try {
    statements = parseStatements(sql);
  } catch {
    // Refused as unreadable by the rules that all statements are under.
    return { reach: UNKNOWN_REACH, refusal: undefined };
  }
  const reach = reachOf(statements, {
    mayShow: (name, isCte) => relations.mayShow(name, isCte),
    columnsOf: (name) => relations.columnsOf(name),
    functions: new Set(rights.execute.map(bareFunction)),
  });
  if (!statements.every((statement) => SERVED.has(nodeOf(statement)?.[0] ?? ''))) {
    return { reach: UNKNOWN_REACH, refusal: 'statement-not-served' };
  }
  const granted = isGranted(statements, rights, (name) => relations.named(name));
  return { reach, refusal: reach.refusal ?? (granted ? undefined : 'relation-not-granted') };
}

function sameClassification(one: Classification, other: Classification): boolean {
  const { columns, classes } = one;
  return (
    columns.length === other.columns.length &&
    classes.size === other.classes.size &&
    columns.every((some, index) => equalMessages(ColumnsSchema, some, other.columns[index])) &&
    [...classes].every(([name, some]) =>
      equalMessages(ColumnClassSchema, some, other.classes.get(name)),
    )
  );
}

function equalMessages<S extends typeof ColumnsSchema | typeof ColumnClassSchema>(
  schema: S,
  one: MessageShape<S>,
  other: MessageShape<S> | undefined,
): boolean {
  return other !== undefined && (one === other || equals(schema, one, other));
}

/** `name` of `schema.name(type, ...)`. */
function bareFunction(signature: string): string {
  const name = signature.split('(')[0] ?? '';
  return name.slice(name.lastIndexOf('.') + 1);
}
