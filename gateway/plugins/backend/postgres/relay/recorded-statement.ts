/**
 * What a record keeps of one statement: its text without literals, and of literals and bound values only
 * those that are certainly meant for an unclassified column; of all others an HMAC, by which somebody
 * who holds the key can look for a value but nobody can read one (threats S9).
 */
import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  ParameterSchema,
  StatementSchema,
} from '../../../../../proto/gen/writ/gateway/v1/recording_pb.ts';
import type { StatementFacts } from '../statements/statement-facts.ts';
import { LIMIT_TARGET, type Target } from '../statements/statement-targets.ts';

type StatementInit = MessageInitShape<typeof StatementSchema>;
type ParameterInit = MessageInitShape<typeof ParameterSchema>;
type Value = Uint8Array | string | null;

/** More are left out of a record: the HMAC of the whole text stands for them. */
const MOST_PARAMETERS = 2000;
/** Longer values are kept as HMACs. */
const LONGEST_VALUE = 4096;
const INTEGER = /^\d{1,19}$/;
const COMMENT = /--|\/\*/;

/** What a record keeps of one statement, each time that it is run. */
export class StatementRecord {
  readonly #facts: StatementFacts;
  readonly #sql: string;
  readonly #hmacKey: Uint8Array;
  readonly #tables: string[];
  #literals: ParameterInit[] | undefined;
  #textHmac: Uint8Array | undefined;

  /** @param hmacKey never leaves the gateway */
  constructor(facts: StatementFacts, sql: string, hmacKey: Uint8Array) {
    this.#facts = facts;
    this.#sql = sql;
    this.#hmacKey = hmacKey;
    this.#tables = [...facts.tables];
  }

  /** @param bound values of the client's own parameters, $1 first: text, binary, or null for NULL */
  of(bound: readonly Value[]): StatementInit {
    const { fingerprint, text, class: statementClass } = this.#facts;
    this.#literals ??= this.#recordLiterals();
    this.#textHmac ??= this.#isWhole(this.#literals) ? NO_HMAC : hmac(this.#sql, this.#hmacKey);
    return {
      fingerprint,
      text,
      class: statementClass,
      tables: this.#tables,
      parameters: bound.length === 0 ? this.#literals : this.#withBound(this.#literals, bound),
      textHmac: this.#textHmac,
    };
  }

  #recordLiterals(): ParameterInit[] {
    const recorded: ParameterInit[] = [];
    for (const literal of this.#facts.literals) {
      if (recorded.length === MOST_PARAMETERS) break;
      recorded.push(parameter(literal.position, literal, literal.value, this.#hmacKey));
    }
    return recorded;
  }

  #withBound(literals: readonly ParameterInit[], bound: readonly Value[]): ParameterInit[] {
    const { parameterTargets } = this.#facts;
    const recorded = [...literals];
    for (const [index, value] of bound.entries()) {
      if (recorded.length === MOST_PARAMETERS) break;
      const target = parameterTargets.get(index + 1);
      recorded.push(parameter(index + 1, target, value, this.#hmacKey));
    }
    return recorded;
  }

  /** Whether the record has all that the client wrote. */
  #isWhole(literals: readonly ParameterInit[]): boolean {
    return (
      this.#facts.text !== '' &&
      literals.length === this.#facts.literals.length &&
      literals.every(({ content }) => content?.case === 'value') &&
      !COMMENT.test(this.#sql)
    );
  }
}

const NO_HMAC = new Uint8Array();

function parameter(
  position: number,
  target: Target | undefined,
  value: Value,
  hmacKey: Uint8Array,
): ParameterInit {
  const name = target?.target ?? '';
  if (value === null) return { position, target: name };
  if (!mayKeep(target, value)) {
    return { position, target: name, content: { case: 'hmac', value: hmac(value, hmacKey) } };
  }
  return { position, target: name, content: { case: 'value', value: shown(value) } };
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

const keys = new WeakMap<Uint8Array, KeyObject>();

/** From bytes a key is made anew for each HMAC, which takes three times as long. */
function hmac(value: Uint8Array | string, key: Uint8Array): Uint8Array {
  const made = keys.get(key) ?? createSecretKey(key);
  keys.set(key, made);
  return createHmac('sha256', made).update(value).digest();
}
