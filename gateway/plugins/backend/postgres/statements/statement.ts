/** Reads a client's SQL: what it does, which tables it names, and what its literals are meant for. */
import type { NamesTouched } from '../relay/statement-log.ts';
import { isDumpsRestriction } from './dump-setting.ts';
import { fingerprintOf, loadParser, parseStatements, SyntaxFault } from './parser.ts';
import type { StatementFacts, StatementLiteral } from './statement-facts.ts';
import { judge, READ, TOO_LONG, UNREADABLE } from './statement-rules.ts';
import {
  contentOf,
  fillIn,
  isItsTemplate,
  ShapeCache,
  shapeOf,
  type Template,
  templateOf,
} from './statement-shapes.ts';
import { findTargets, type Target, type Targets } from './statement-targets.ts';
import {
  isPlainName,
  type LiteralToken,
  NoTokens,
  plainText,
  type Token,
  tokenize,
} from './statement-tokens.ts';
import { namesOfTree, type TreeNames } from './statement-tree.ts';

export interface StatementReaderOptions {
  /** Classified columns by `schema.table`. */
  readonly classified: ReadonlyMap<string, ReadonlySet<string>>;
  /** What is kept of texts read before. */
  readonly cacheBytes: number;
}

/** Longer texts hold up all other sessions while they are parsed: they go to a thread of their own. */
export const LONGEST_READ_HERE = 8 * 1024;
/** Longer texts are not parsed; of a long one, what parsing takes counts. */
export const LONGEST_PARSED = 1024 * 1024;
const LONGEST_MESSAGE = 500;
const BLANK = /^[ \t\n\r\f\v]*$/;
const NOTHING_HIDDEN: ReadonlySet<number> = new Set();

export const UNPARSED: StatementFacts = {
  fingerprint: '',
  text: '',
  class: 'unparsed',
  verdict: UNREADABLE,
  tables: [],
  relations: new Set(),
  functions: new Set(),
  literals: [],
  parameterTargets: new Map(),
  names: undefined,
};
const NO_TARGET: Target = { target: undefined, classified: false };
const EMPTY: StatementFacts = { ...UNPARSED, class: 'session', verdict: judge([]) };

/** Reads statements for one backend. */
export class StatementReader {
  readonly #classified: ReadonlySet<string>;
  readonly #shapes: ShapeCache;

  /** Loads the parser; once in a process, before the first statement. */
  static load(): Promise<void> {
    return loadParser();
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
    const template = templateOf(sql);
    const seen = template && this.#shapes.get(template.key);
    if (template !== undefined && seen !== undefined) return fillIn(seen, template.values);
    try {
      return this.#tokenized(sql, template);
    } catch (error) {
      return { ...UNPARSED, ...syntaxError(sql, error) };
    }
  }

  /**
   * As `read`, without what is remembered of others.
   * @param rowsKept how many rows are left of lists that rows were taken out of
   */
  readLong(sql: string, rowsKept: readonly number[]): StatementFacts {
    if (BLANK.test(sql)) return EMPTY;
    try {
      return this.#parse(sql, tokenize(sql), undefined, rowsKept);
    } catch (error) {
      return { ...UNPARSED, ...syntaxError(sql, error) };
    }
  }

  #tokenized(sql: string, template: Template | undefined): StatementFacts {
    const tokens = tokenize(sql);
    const plain = plainText(sql, tokens, NOTHING_HIDDEN);
    const shape = shapeOf(plain);
    if (shape === undefined) return this.#parse(sql, tokens, undefined);
    const known = this.#shapes.get(shape);
    const facts =
      known === undefined
        ? this.#parse(sql, tokens, shape)
        : fillIn(
            known,
            plain.literals.map(({ raw }) => contentOf(raw)),
          );
    const isReusable = known !== undefined || this.#shapes.get(shape) !== undefined;
    if (template !== undefined && isReusable && isItsTemplate(sql, plain.literals)) {
      this.#shapes.set(template.key, facts);
    }
    return facts;
  }

  #parse(
    sql: string,
    tokens: readonly Token[],
    shape: string | undefined,
    rowsKept: readonly number[] = [],
  ): StatementFacts {
    const statements = parseStatements(sql);
    const targets = findTargets(statements, (name) => this.#classified.has(name.toLowerCase()));
    checkOffsets(tokens, targets);
    const { text, literals } = plainText(sql, tokens, targets.suspects);
    const verdict = isDumpsRestriction(sql) ? READ : judge(statements);
    const names = namesOfTree(statements);
    if (!includesAll(names.rowCounts, rowsKept)) throw new Error('a row is not what it seemed');
    const facts: StatementFacts = {
      fingerprint: fingerprintOf(sql),
      text,
      class: verdict.class,
      verdict,
      tables: names.tables.filter((name) => name.split('.').every(isPlainName)),
      relations: names.relations,
      functions: names.functions,
      literals: literals.map((token) => literalOf(token, targets)),
      parameterTargets: targets.parameters,
      names: namesIn(text),
    };
    const reusable = targets.suspects.size === 0 && !dependsOnLiterals(names, text);
    if (shape !== undefined && reusable) this.#shapes.set(shape, facts);
    return facts;
  }
}

/** A text without tokens is left to the parser to find fault with; if it takes it, there is none. */
function syntaxError(sql: string, error: unknown): Pick<StatementFacts, 'syntaxError'> {
  if (error instanceof SyntaxFault) return said(error);
  if (!(error instanceof NoTokens)) return {};
  try {
    parseStatements(sql);
  } catch (fault) {
    if (fault instanceof SyntaxFault) return said(fault);
  }
  return {};
}

/** It repeats a token, which may be long. */
function said({ message }: SyntaxFault): Pick<StatementFacts, 'syntaxError'> {
  return { syntaxError: message.slice(0, LONGEST_MESSAGE) };
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

function includesAll(counts: readonly number[], expected: readonly number[]): boolean {
  const left = [...counts];
  return expected.every((count) => {
    const at = left.indexOf(count);
    if (at >= 0) left.splice(at, 1);
    return at >= 0;
  });
}

/** Whether the verdict would differ with other values: only settings are judged by name and value. */
function dependsOnLiterals({ setsSettings }: TreeNames, text: string): boolean {
  return setsSettings || /set_config/i.test(text);
}

const MAKES_NAME = /(^|;)\s*prepare\b/i;
const DROPS_NAMES = /(^|;)\s*(deallocate|discard)\b/i;

/** @param text without literals and comments */
function namesIn(text: string): NamesTouched | undefined {
  const names = { makes: MAKES_NAME.test(text), drops: DROPS_NAMES.test(text) };
  return names.makes || names.drops ? names : undefined;
}
