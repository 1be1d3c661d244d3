/**
 * Reads a text that is too long for the gateway's own thread. What comes of it is bounded, however long
 * the text: facts without its values, and what its record keeps.
 */
import { isUtf8 } from 'node:buffer';
import { MOST_PARAMETERS, type RecordedText, recordText } from '../relay/recorded-statement.ts';
import { LONGEST_PARSED, StatementReader, UNPARSED } from './statement.ts';
import type { StatementFacts } from './statement-facts.ts';
import { leaveOutRows, type ReducedText } from './statement-rows.ts';
import { TOO_LONG } from './statement-rules.ts';
import type { Target } from './statement-targets.ts';

/** Rows that begin here are kept, so that a record has their values. */
const KEPT_ROWS_BYTES = 32 * 1024;
/** Characters of a record's text. */
const LONGEST_RECORDED = 256 * 1024;
/** A statement with more names is refused as too long. */
const MOST_NAMES = 10_000;

/** What a thread says when it can read. */
export const READY = 'ready';

export interface LongStatement {
  /** UTF-8 without NUL, as the client wrote it. */
  readonly text: Uint8Array;
  /** Names of classified columns. */
  readonly classified: readonly string[];
  /** Never leaves the process. */
  readonly hmacKey: Uint8Array;
  /** Whether it is read for masks as well. */
  readonly forMasks: boolean;
}

/** Without literals: `record` has those that may be kept. */
export interface LongFacts extends Omit<StatementFacts, 'literals' | 'tables'> {
  readonly record: RecordedText;
  /** If it is read for masks: its text without rows that are like others; undefined if that is long too. */
  readonly essence: string | undefined;
}

/** This is parsed once more in the gateway's own thread, which knows the catalog. */
const LONGEST_ESSENCE = 32 * 1024;

/** Never throws for what a client wrote. */
export function readLong({ text, classified, hmacKey, forMasks }: LongStatement): LongFacts {
  const written = Buffer.from(text.buffer, text.byteOffset, text.byteLength);
  const reader = new StatementReader({
    classified: new Map([['', new Set(classified)]]),
    cacheBytes: 0,
  });
  const reduced = reduce(written);
  const facts = bounded(readReduced(reader, reduced));
  const { rowsLeftOut } = reduced;
  const isCut = facts.text.length > LONGEST_RECORDED;
  const record = recordText(facts, written, { hmacKey, isPart: rowsLeftOut > 0 || isCut });
  return {
    class: facts.class,
    verdict: facts.verdict,
    fingerprint: facts.fingerprint,
    text: '',
    relations: facts.relations,
    functions: facts.functions,
    names: facts.names,
    ...(facts.syntaxError === undefined ? {} : { syntaxError: facts.syntaxError }),
    parameterTargets: recordedTargets(facts.parameterTargets),
    record: { ...record, text: recordedText(record.text, rowsLeftOut) },
    essence: forMasks ? essenceOf(reduced) : undefined,
  };
}

/** What is left out is said in comments: a record's text has no others. */
function recordedText(text: string, rowsLeftOut: number): string {
  if (text === '') return '';
  const isCut = text.length > LONGEST_RECORDED;
  const kept = isCut ? `${text.slice(0, LONGEST_RECORDED)} /* and so on */` : text;
  return rowsLeftOut > 0 ? `${kept} /* and ${rowsLeftOut} rows alike */` : kept;
}

/** A text that has no tokens of SQL is left to the parser to refuse. */
function reduce(written: Buffer): ReducedText {
  const bytes = written.toString('latin1');
  try {
    return leaveOutRows(bytes, { keptBytes: KEPT_ROWS_BYTES, emptiesStrings: false });
  } catch {
    return { bytes, weight: bytes.length, rowsLeftOut: 0, rowsKept: [] };
  }
}

function readReduced(
  reader: StatementReader,
  { bytes, weight, rowsKept }: ReducedText,
): StatementFacts {
  if (weight > LONGEST_PARSED) return { ...UNPARSED, verdict: TOO_LONG };
  return reader.readLong(fromBytes(bytes), rowsKept);
}

function bounded(facts: StatementFacts): StatementFacts {
  const { relations, functions, verdict } = facts;
  const names = relations.size + functions.size + verdict.sets.length;
  return names > MOST_NAMES ? { ...UNPARSED, verdict: TOO_LONG } : facts;
}

/** Only so many bound values are recorded, so no more targets are asked for. */
function recordedTargets(targets: ReadonlyMap<number, Target>): ReadonlyMap<number, Target> {
  return new Map([...targets].filter(([number]) => number <= MOST_PARAMETERS));
}

function essenceOf({ bytes, weight }: ReducedText): string | undefined {
  if (weight > LONGEST_PARSED) return undefined;
  try {
    const { bytes: least } = leaveOutRows(bytes, { keptBytes: 0, emptiesStrings: true });
    return least.length > LONGEST_ESSENCE ? undefined : fromBytes(least);
  } catch {
    return undefined;
  }
}

function fromBytes(bytes: string): string {
  const utf8 = Buffer.from(bytes, 'latin1');
  if (!isUtf8(utf8)) throw new Error('a text was cut within a character');
  return utf8.toString('utf8');
}
