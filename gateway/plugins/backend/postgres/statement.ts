/**
 * Reads a client's SQL: what it does, which tables it names, and what of it a record may keep.
 *
 * A record keeps the statement's text without its literals, and of literals and bound values only
 * those that are certainly meant for an unclassified column; of all others an HMAC, by which somebody
 * who holds the key can look for a value but nobody can read one (threats S9).
 */
import { createHmac } from 'node:crypto';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { fingerprintSync, hasSqlDetails, loadModule, parseSync } from 'libpg-query';
import type {
  ParameterSchema,
  StatementSchema,
} from '../../../../proto/gen/writ/gateway/v1/recording_pb.ts';
import {
  judge,
  type StatementClass,
  TOO_LONG,
  UNREADABLE,
  type Verdict,
} from './statement-rules.ts';
import { findTargets, LIMIT_TARGET, type Target, type Targets } from './statement-targets.ts';
import {
  isPlainName,
  type LiteralToken,
  type PlainText,
  plainText,
  type Token,
  tokenize,
  utf8,
} from './statement-tokens.ts';
import { fieldsOf, listOf, nodeOf, tableNames } from './statement-tree.ts';

export interface StatementFacts {
  /** libpg_query's; equal for statements that differ in literals alone. Empty if unparsed. */
  readonly fingerprint: string;
  /** The text with `$n` in place of literals, without comments. Empty if unparsed. */
  readonly text: string;
  /** The strongest of all statements in the text. */
  readonly class: StatementClass;
  readonly verdict: Verdict;
  /** `schema.table`, or `table` where the statement does not qualify it. */
  readonly tables: readonly string[];
  readonly literals: readonly StatementLiteral[];
  /** By n of the client's own `$n`. */
  readonly parameterTargets: ReadonlyMap<number, Target>;
  /** Why it does not parse, in the client's own words: for the client, never for a record or a log. */
  readonly syntaxError?: string;
}

export interface StatementLiteral extends Target {
  /** n of its `$n` in the text, above the client's own. */
  readonly position: number;
  /** Strings decoded, all else as written. */
  readonly value: string;
}

export interface StatementReaderOptions {
  /** Classified columns by `schema.table`. */
  readonly classified: ReadonlyMap<string, ReadonlySet<string>>;
  /** What is kept of texts read before. */
  readonly cacheBytes: number;
}

/** Longer texts are not parsed: parsing would hold up all other sessions. */
const LONGEST_PARSED = 128 * 1024;
const BLANK = /^[ \t\n\r\f\v]*$/;
const NOTHING_HIDDEN: ReadonlySet<number> = new Set();

const UNPARSED: StatementFacts = {
  fingerprint: '',
  text: '',
  class: 'unparsed',
  verdict: UNREADABLE,
  tables: [],
  literals: [],
  parameterTargets: new Map(),
};
const NO_TARGET: Target = { target: undefined, classified: false };
const EMPTY: StatementFacts = { ...UNPARSED, class: 'session', verdict: judge([]) };

/** Reads statements for one backend. */
export class StatementReader {
  readonly #classified: ReadonlySet<string>;
  readonly #shapes: ShapeCache;

  /** Loads the parser; once in a process, before the first statement. */
  static load(): Promise<void> {
    return loadModule();
  }

  constructor(options: StatementReaderOptions) {
    const columns = [...options.classified.values()].flatMap((names) => [...names]);
    this.#classified = new Set(columns.map((name) => name.toLowerCase()));
    this.#shapes = new ShapeCache(options.cacheBytes);
  }

  /** Never throws: what cannot be read is `unparsed`. */
  read(sql: string): StatementFacts {
    if (BLANK.test(sql)) return EMPTY;
    if (sql.length > LONGEST_PARSED) return { ...UNPARSED, verdict: TOO_LONG };
    // The parser would stop at a NUL, and the server's reading is not known.
    if (sql.includes('\0')) return UNPARSED;
    try {
      const tokens = tokenize(sql);
      const plain = plainText(sql, tokens, NOTHING_HIDDEN);
      const shape = shapeOf(plain);
      const known = shape === undefined ? undefined : this.#shapes.get(shape);
      if (known !== undefined) return fillIn(known, plain.literals);
      return this.#parse(sql, tokens, shape);
    } catch {
      return { ...UNPARSED, ...syntaxError(sql) };
    }
  }

  #parse(sql: string, tokens: readonly Token[], shape: string | undefined): StatementFacts {
    const statements = listOf(parseSync(sql).stmts).map((raw) => fieldsOf(raw).stmt);
    const targets = findTargets(statements, (name) => this.#classified.has(name.toLowerCase()));
    checkOffsets(tokens, targets);
    const { text, literals } = plainText(sql, tokens, targets.suspects);
    const verdict = judge(statements);
    const facts: StatementFacts = {
      fingerprint: fingerprintSync(sql),
      text,
      class: verdict.class,
      verdict,
      tables: tableNames(statements).filter((name) => name.split('.').every(isPlainName)),
      literals: literals.map((token) => literalOf(token, targets)),
      parameterTargets: targets.parameters,
    };
    const reusable = targets.suspects.size === 0 && !dependsOnLiterals(statements, text);
    if (shape !== undefined && reusable) this.#shapes.set(shape, facts);
    return facts;
  }
}

/** A text that the parser takes but the tokenizer does not has none. */
function syntaxError(sql: string): Pick<StatementFacts, 'syntaxError'> {
  try {
    parseSync(sql);
  } catch (error) {
    if (hasSqlDetails(error)) return { syntaxError: error.message };
  }
  return {};
}

/** The parser and the tokens must agree on where constants are, or a literal could pass for another. */
function checkOffsets(tokens: readonly Token[], { constants, strings }: Targets): void {
  const offsets = new Set(tokens.map(({ offset }) => offset));
  for (const offset of [...constants.keys(), ...strings.keys()]) {
    if (!offsets.has(offset)) throw new Error('a constant is not where it was found');
  }
}

function literalOf(token: LiteralToken, { constants, strings }: Targets): StatementLiteral {
  const { offset, signOffset = -1, position, raw } = token;
  const { target, classified } = constants.get(offset) ?? constants.get(signOffset) ?? NO_TARGET;
  return { target, classified, position, value: strings.get(offset) ?? contentOf(raw) };
}

/** Of a plain string its content, of all else what was written. */
function contentOf(raw: string): string {
  const text = utf8(raw);
  return text.startsWith("'") ? text.slice(1, -1).replaceAll("''", "'") : text;
}

const INTEGER_LITERAL = /^\d{1,9}$/;
const NUMBER_LITERAL = /^\.?\d/;

/**
 * What statements that differ only in the values of plain literals have in common: all the parser
 * would find out. Undefined if the text has literals of other kinds, or strings in several parts.
 */
function shapeOf({ text, literals }: PlainText): string | undefined {
  let kinds = '';
  let stringBefore = -1;
  for (const { raw, index } of literals) {
    const kind = kindOf(raw);
    if (kind === '' || (kind === 's' && stringBefore === index - 1)) return undefined;
    if (kind === 's') stringBefore = index;
    kinds += kind + index;
  }
  return `${kinds} ${text}`;
}

function kindOf(raw: string): string {
  if (raw.startsWith("'")) return 's';
  if (INTEGER_LITERAL.test(raw)) return 'i';
  return NUMBER_LITERAL.test(raw) ? 'n' : '';
}

/** Whether the verdict would differ with other values: only settings are judged by name and value. */
function dependsOnLiterals(statements: readonly unknown[], text: string): boolean {
  const sets = statements.some((statement) => nodeOf(statement)?.[0] === 'VariableSetStmt');
  return sets || /set_config/i.test(text);
}

/** The facts of another statement of the same shape. */
function fillIn(facts: StatementFacts, literals: readonly LiteralToken[]): StatementFacts {
  return {
    ...facts,
    literals: facts.literals.map((literal, index) => ({
      ...literal,
      value: contentOf(literals[index]?.raw ?? ''),
    })),
  };
}

/** The least recently used goes first; bounded by an estimate of what the entries hold. No values. */
class ShapeCache {
  readonly #entries = new Map<string, StatementFacts>();
  readonly #maximumBytes: number;
  #bytes = 0;

  constructor(maximumBytes: number) {
    this.#maximumBytes = maximumBytes;
  }

  get(shape: string): StatementFacts | undefined {
    const facts = this.#entries.get(shape);
    if (facts === undefined) return undefined;
    this.#entries.delete(shape);
    this.#entries.set(shape, facts);
    return facts;
  }

  set(shape: string, facts: StatementFacts): void {
    const literals = facts.literals.map((literal) => ({ ...literal, value: '' }));
    this.#entries.set(shape, { ...facts, literals });
    this.#bytes += sizeOf(shape, facts);
    for (const [oldest, old] of this.#entries) {
      if (this.#bytes <= this.#maximumBytes) return;
      this.#entries.delete(oldest);
      this.#bytes -= sizeOf(oldest, old);
    }
  }
}

function sizeOf(
  shape: string,
  { text, literals, parameterTargets, tables }: StatementFacts,
): number {
  const items = literals.length + parameterTargets.size + tables.length;
  return 500 + 2 * (shape.length + text.length) + 200 * items;
}

type StatementInit = MessageInitShape<typeof StatementSchema>;
type ParameterInit = MessageInitShape<typeof ParameterSchema>;

/** More are left out of a record: the HMAC of the whole text stands for them. */
const MOST_PARAMETERS = 2000;
/** Longer values are kept as HMACs. */
const LONGEST_VALUE = 4096;
const INTEGER = /^\d{1,19}$/;

/**
 * What a record keeps of one statement.
 * @param bound values of the client's own parameters, $1 first: text, binary, or null for NULL
 * @param hmacKey never leaves the gateway
 */
export function recordedStatement(
  facts: StatementFacts,
  sql: string,
  bound: readonly (Uint8Array | string | null)[],
  hmacKey: Uint8Array,
): StatementInit {
  const literals = facts.literals
    .slice(0, MOST_PARAMETERS)
    .map((literal) => parameter(literal.position, literal, literal.value, hmacKey));
  const values = bound.slice(0, MOST_PARAMETERS - literals.length).map((value, index) => {
    const target = facts.parameterTargets.get(index + 1);
    return parameter(index + 1, target, value, hmacKey);
  });
  return {
    fingerprint: facts.fingerprint,
    text: facts.text,
    class: facts.class,
    tables: [...facts.tables],
    parameters: [...literals, ...values],
    textHmac: hmac(sql, hmacKey),
  };
}

function parameter(
  position: number,
  target: Target | undefined,
  value: Uint8Array | string | null,
  hmacKey: Uint8Array,
): ParameterInit {
  const known = { position, target: target?.target ?? '' };
  if (value === null) return known;
  const kept = mayKeep(target, value) ? shown(value) : undefined;
  return kept === undefined
    ? { ...known, content: { case: 'hmac', value: hmac(value, hmacKey) } }
    : { ...known, content: { case: 'value', value: kept } };
}

function mayKeep(target: Target | undefined, value: Uint8Array | string): boolean {
  if (target?.target === undefined || target.classified || value.length > LONGEST_VALUE)
    return false;
  if (target.target !== LIMIT_TARGET) return true;
  return typeof value === 'string' ? INTEGER.test(value) : value.length <= 8;
}

/** Binary values as PostgreSQL writes bytea. */
function shown(value: Uint8Array | string): string {
  return typeof value === 'string' ? value : `\\x${Buffer.from(value).toString('hex')}`;
}

function hmac(value: Uint8Array | string, key: Uint8Array): Uint8Array {
  return createHmac('sha256', key).update(value).digest();
}
