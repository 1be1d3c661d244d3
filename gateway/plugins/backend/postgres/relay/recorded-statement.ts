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
import type { StatementFacts, StatementLiteral } from '../statements/statement-facts.ts';
import { LIMIT_TARGET, type Target } from '../statements/statement-targets.ts';

type StatementInit = MessageInitShape<typeof StatementSchema>;
type ParameterInit = MessageInitShape<typeof ParameterSchema>;
type Value = Uint8Array | string | null;

/** More are left out of a record: the HMAC of the whole text stands for them. */
export const MOST_PARAMETERS = 2000;
const MOST_TABLES = 2000;
/** Longer values are kept as HMACs. */
const LONGEST_VALUE = 4096;
/** Of the values of one record, which is one event of at most 8 MiB. */
const MOST_VALUE_BYTES = 2 * 1024 * 1024;
const INTEGER = /^\d{1,19}$/;
const COMMENT = /--|\/\*/;

/** What a record keeps of one statement, but for the values that are bound to it. */
export interface RecordedText {
  readonly fingerprint: string;
  readonly text: string;
  readonly class: string;
  readonly tables: string[];
  readonly literals: readonly ParameterInit[];
  /** Empty if the record has all that the client wrote. */
  readonly textHmac: Uint8Array;
}

/**
 * @param written what the client wrote: text, or its bytes
 * @param hmacKey never leaves the gateway
 * @param isPart whether the facts are of a part of it
 */
export function recordText(
  facts: StatementFacts,
  written: string | Buffer,
  { hmacKey, isPart }: { hmacKey: Uint8Array; isPart: boolean },
): RecordedText {
  const { fingerprint, text, class: statementClass } = facts;
  const tables = facts.tables.slice(0, MOST_TABLES);
  const literals = recordLiterals(facts.literals, hmacKey);
  const isWhole =
    !isPart &&
    text !== '' &&
    literals.length === facts.literals.length &&
    tables.length === facts.tables.length &&
    literals.every(({ content }) => content?.case === 'value') &&
    !COMMENT.test(typeof written === 'string' ? written : written.toString('latin1'));
  const textHmac = isWhole ? NO_HMAC : hmac(written, hmacKey);
  return { fingerprint, text, class: statementClass, tables, literals, textHmac };
}

/** What a record keeps of one statement, each time that it is run. */
export class StatementRecord {
  readonly #make: () => RecordedText;
  readonly #parameterTargets: ReadonlyMap<number, Target>;
  readonly #hmacKey: Uint8Array;
  #made: RecordedText | undefined;

  /** @param make is called when the statement is recorded for the first time */
  constructor(
    make: () => RecordedText,
    parameterTargets: ReadonlyMap<number, Target>,
    hmacKey: Uint8Array,
  ) {
    this.#make = make;
    this.#parameterTargets = parameterTargets;
    this.#hmacKey = hmacKey;
  }

  /** @param bound values of the client's own parameters, $1 first: text, binary, or null for NULL */
  of(bound: readonly Value[]): StatementInit {
    this.#made ??= this.#make();
    const { fingerprint, text, class: statementClass, tables, literals, textHmac } = this.#made;
    const parameters =
      bound.length === 0 ? (literals as ParameterInit[]) : this.#withBound(literals, bound);
    return { fingerprint, text, class: statementClass, tables, parameters, textHmac };
  }

  #withBound(literals: readonly ParameterInit[], bound: readonly Value[]): ParameterInit[] {
    const recorded = [...literals];
    let left = MOST_VALUE_BYTES;
    for (const [index, value] of bound.entries()) {
      if (recorded.length === MOST_PARAMETERS || left <= 0) break;
      const target = this.#parameterTargets.get(index + 1);
      const one = parameter(index + 1, target, value, this.#hmacKey);
      left -= one.content?.value?.length ?? 0;
      recorded.push(one);
    }
    return recorded;
  }
}

function recordLiterals(
  literals: readonly StatementLiteral[],
  hmacKey: Uint8Array,
): ParameterInit[] {
  const recorded: ParameterInit[] = [];
  let left = MOST_VALUE_BYTES;
  for (const literal of literals) {
    if (recorded.length === MOST_PARAMETERS || left <= 0) break;
    const one = parameter(literal.position, literal, literal.value, hmacKey);
    left -= one.content?.value?.length ?? 0;
    recorded.push(one);
  }
  return recorded;
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
