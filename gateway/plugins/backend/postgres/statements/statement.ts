/** Reads a client's SQL: what it does, which tables it names, and what its literals are meant for. */
import { fingerprintSync, hasSqlDetails, loadModule, parseSync } from 'libpg-query';
import type { NamesTouched } from '../relay/statement-log.ts';
import type { StatementFacts, StatementLiteral } from './statement-facts.ts';
import { judge, TOO_LONG, UNREADABLE } from './statement-rules.ts';
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
  plainText,
  type Token,
  tokenize,
} from './statement-tokens.ts';
import {
  fieldsOf,
  functionNames,
  listOf,
  relationNames,
  tableNames,
  walk,
} from './statement-tree.ts';

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
    const template = templateOf(sql);
    const seen = template && this.#shapes.get(template.key);
    if (template !== undefined && seen !== undefined) return fillIn(seen, template.values);
    try {
      return this.#tokenized(sql, template);
    } catch {
      return { ...UNPARSED, ...syntaxError(sql) };
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
      relations: relationNames(statements),
      functions: functionNames(statements),
      literals: literals.map((token) => literalOf(token, targets)),
      parameterTargets: targets.parameters,
      names: namesIn(text),
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

/** Whether the verdict would differ with other values: only settings are judged by name and value. */
function dependsOnLiterals(statements: readonly unknown[], text: string): boolean {
  let sets = false;
  walk(statements, (fields) => {
    sets ||= fields.VariableSetStmt !== undefined;
  });
  return sets || /set_config/i.test(text);
}

const MAKES_NAME = /(^|;)\s*prepare\b/i;
const DROPS_NAMES = /(^|;)\s*(deallocate|discard)\b/i;

/** @param text without literals and comments */
function namesIn(text: string): NamesTouched | undefined {
  const names = { makes: MAKES_NAME.test(text), drops: DROPS_NAMES.test(text) };
  return names.makes || names.drops ? names : undefined;
}
