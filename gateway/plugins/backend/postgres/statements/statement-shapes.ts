/**
 * What is remembered of statements that were read: all that the parser finds out is the same for texts
 * that differ in the values of plain literals alone. No value is kept.
 */
import type { StatementFacts, StatementLiteral } from './statement-facts.ts';
import { type LiteralToken, type PlainText, utf8 } from './statement-tokens.ts';

const INTEGER_LITERAL = /^\d{1,9}$/;
const NUMBER_LITERAL = /^\.?\d/;

/**
 * What statements that differ only in the values of plain literals have in common: all the parser
 * would find out. Undefined if the text has literals of other kinds, or strings in several parts.
 */
export function shapeOf({ text, literals }: PlainText): string | undefined {
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

/** A text with its integers taken out, wherever they stand. */
export interface Template {
  readonly key: string;
  readonly values: readonly string[];
}

/** Longer texts are cut into tokens each time. */
const LONGEST_TEMPLATE = 4096;
const INTEGERS = /(?<![\w$.])\d{1,9}(?![\w$.])/g;

/** @param sql has no NUL, which stands for an integer in the key */
export function templateOf(sql: string): Template | undefined {
  if (sql.length > LONGEST_TEMPLATE) return undefined;
  const values: string[] = [];
  let key = '';
  let end = 0;
  INTEGERS.lastIndex = 0;
  for (let found = INTEGERS.exec(sql); found !== null; found = INTEGERS.exec(sql)) {
    const digits = found[0];
    values.push(digits);
    key += `${sql.slice(end, found.index)}\0`;
    end = found.index + digits.length;
  }
  return { key: end === 0 ? sql : key + sql.slice(end), values };
}

/**
 * Whether the integers of the text's template are its literals, one by one. Then a text of the same
 * template has the same tokens but for them: digits for digits, with the same characters around.
 */
export function isItsTemplate(sql: string, literals: readonly LiteralToken[]): boolean {
  const found = [...sql.matchAll(INTEGERS)];
  return (
    Buffer.byteLength(sql) === sql.length &&
    found.length === literals.length &&
    literals.every(
      ({ offset, raw }, index) => found[index]?.index === offset && found[index][0] === raw,
    )
  );
}

/** Of a plain string its content, of all else what was written. */
export function contentOf(raw: string): string {
  const text = utf8(raw);
  return text.startsWith("'") ? text.slice(1, -1).replaceAll("''", "'") : text;
}

/**
 * The facts of another statement of the same shape.
 * @param values of its literals, in order
 */
export function fillIn(facts: StatementFacts, values: readonly string[]): StatementFacts {
  const { fingerprint, text, verdict, tables, relations, functions } = facts;
  const literals: StatementLiteral[] = [];
  for (const { target, classified, position } of facts.literals) {
    literals.push({ target, classified, position, value: values[literals.length] ?? '' });
  }
  return {
    fingerprint,
    text,
    class: facts.class,
    verdict,
    tables,
    relations,
    functions,
    literals,
    parameterTargets: facts.parameterTargets,
    names: facts.names,
  };
}

/** The least recently used goes first; bounded by an estimate of what the entries hold. No values. */
export class ShapeCache {
  readonly #entries = new Map<string, StatementFacts>();
  readonly #maximumBytes: number;
  #bytes = 0;
  /** Needs not be moved to the end. */
  #newest: string | undefined;

  constructor(maximumBytes: number) {
    this.#maximumBytes = maximumBytes;
  }

  get(shape: string): StatementFacts | undefined {
    const facts = this.#entries.get(shape);
    if (facts === undefined || shape === this.#newest) return facts;
    this.#entries.delete(shape);
    this.#entries.set(shape, facts);
    this.#newest = shape;
    return facts;
  }

  set(shape: string, facts: StatementFacts): void {
    const before = this.#entries.get(shape);
    if (before !== undefined) {
      this.#entries.delete(shape);
      this.#bytes -= sizeOf(shape, before);
    }
    this.#entries.set(shape, fillIn(facts, []));
    this.#newest = shape;
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
