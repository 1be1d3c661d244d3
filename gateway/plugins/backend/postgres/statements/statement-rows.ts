/**
 * Long INSERTs are mostly rows of one kind. What a statement does is the same however many such rows it
 * has, so all but the first of a kind can be left out before it is parsed: rows of VALUES that have the
 * same tokens but for the values of plain literals.
 *
 * Nothing is gained by a row that looks like no row to the grammar: what stands between two parentheses
 * is left out only if the same tokens stand before, in the same list, and all that is found out about a
 * statement is the union of what its parts say. Rows that hold a query, whose literals may number
 * columns, or a string in several parts, are kept.
 */
import { scanTokens } from './statement-tokens.ts';

export interface ReducedText {
  /** Each byte of UTF-8 as a character, as the text. */
  readonly bytes: string;
  /** What parsing it takes: a byte for each token, and those of tokens that are not long. */
  readonly weight: number;
  readonly rowsLeftOut: number;
  /** How many rows are left of each list that lost some. */
  readonly rowsKept: readonly number[];
}

export interface LeaveOutOptions {
  /** Rows that begin before are kept all the same. */
  readonly keptBytes: number;
  /** Whether long strings become empty ones. */
  readonly emptiesStrings: boolean;
}

/**
 * @param bytes of the text, each as a character
 * @throws NoTokens
 */
export function leaveOutRows(bytes: string, options: LeaveOutOptions): ReducedText {
  const reducer = new RowReducer(bytes, options);
  scanTokens(bytes, (start, end) => reducer.take(start, end));
  return reducer.result();
}

const LONG_TOKEN = 256;
const COMMA_WEIGHT = 2;
const OPEN = 0x28;
const CLOSE = 0x29;
const COMMA = 0x2c;
const QUOTE = 0x27;
const DOT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;

const PUNCTUATION = /^[-+*/<>=~!@#%^&|`?.,;:()[\]]$/;
const WORD = /^(?:[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*|"[^"]*"|\$\d+)$/;
/** `set_config` is judged by its values, and the literals of a query may number its columns. */
const KEPT_WORD = /^"?(?:select|table|values|with|.*set_config.*)"?$/i;
const INTEGER = /^\d{1,9}$/;

class RowReducer {
  readonly #bytes: string;
  readonly #options: LeaveOutOptions;
  readonly #pieces: string[] = [];
  readonly #rowsKept: number[] = [];
  #copied = 0;
  #weight = 0;
  /** As they were before the row. */
  #before = { pieces: 0, copied: 0, weight: 0 };
  #rowsLeftOut = 0;
  #expects: 'nothing' | 'first row' | 'more of the row' | 'comma' | 'row' = 'nothing';
  /** Where the last token ended. */
  #end = 0;
  /** Where what goes with the row begins: the comma before it. */
  #rowStart = 0;
  #depth = 0;
  #kind = '';
  #isPlain = true;
  #afterString = false;
  #kinds = new Set<string>();
  #keptHere = 0;
  #leftOutHere = 0;

  constructor(bytes: string, options: LeaveOutOptions) {
    this.#bytes = bytes;
    this.#options = options;
  }

  take(start: number, end: number): void {
    const first = this.#bytes.charCodeAt(start);
    this.#weight += Math.min(end - start, LONG_TOKEN) + 1;
    if (end - start > LONG_TOKEN && first === QUOTE && this.#options.emptiesStrings) {
      this.#pieces.push(this.#bytes.slice(this.#copied, start), "''");
      this.#copied = end;
    }
    switch (this.#expects) {
      case 'more of the row':
        this.#takeOfRow(start, end, first);
        break;
      case 'comma':
        if (first === COMMA) this.#startsRow('row', this.#end);
        else this.#endList(start, end);
        break;
      case 'first row':
      case 'row':
        if (first === OPEN) this.#expects = 'more of the row';
        else this.#endList(start, end);
        break;
      default:
        this.#takeOutside(start, end);
    }
    this.#end = end;
  }

  result(): ReducedText {
    this.#closeList();
    const bytes = this.#pieces.join('') + this.#bytes.slice(this.#copied);
    const weight = this.#weight;
    return { bytes, weight, rowsLeftOut: this.#rowsLeftOut, rowsKept: this.#rowsKept };
  }

  #takeOutside(start: number, end: number): void {
    if (end - start !== 6 || this.#bytes.slice(start, end).toLowerCase() !== 'values') return;
    this.#kinds = new Set();
    this.#keptHere = 0;
    this.#leftOutHere = 0;
    this.#startsRow('first row', start);
  }

  #startsRow(expects: 'first row' | 'row', from: number): void {
    this.#expects = expects;
    this.#rowStart = from;
    const weight = this.#weight - (expects === 'row' ? COMMA_WEIGHT : 0);
    this.#before = { pieces: this.#pieces.length, copied: this.#copied, weight };
    this.#depth = 1;
    this.#kind = '';
    this.#isPlain = true;
    this.#afterString = false;
  }

  #takeOfRow(start: number, end: number, first: number): void {
    const isString = first === QUOTE;
    if (isString) {
      this.#isPlain &&= !this.#afterString;
      this.#kind += '\x01';
    } else if ((first >= ZERO && first <= NINE) || (first === DOT && end > start + 1)) {
      this.#kind += INTEGER.test(this.#bytes.slice(start, end)) ? '\x02' : '\x03';
    } else {
      this.#takeOther(start, end);
    }
    this.#afterString = isString;
    if (first === OPEN) this.#depth += 1;
    else if (first === CLOSE) this.#depth -= 1;
    if (this.#depth === 0) this.#endRow(end);
  }

  #takeOther(start: number, end: number): void {
    const raw = this.#bytes.slice(start, end);
    // Whether operators stand apart decides whether they are one.
    if (PUNCTUATION.test(raw)) this.#kind += start > this.#end && raw !== ',' ? ` ${raw}` : raw;
    else if (WORD.test(raw) && !KEPT_WORD.test(raw)) this.#kind += ` ${raw}`;
    else this.#isPlain = false;
  }

  #endRow(end: number): void {
    this.#expects = 'comma';
    const isNew = !this.#isPlain || !this.#kinds.has(this.#kind);
    if (this.#isPlain) this.#kinds.add(this.#kind);
    if (isNew || this.#rowStart < this.#options.keptBytes) {
      this.#keptHere += 1;
      return;
    }
    this.#leftOutHere += 1;
    const { pieces, copied, weight } = this.#before;
    this.#pieces.length = pieces;
    this.#copied = copied;
    this.#weight = weight;
    if (this.#rowStart > this.#copied) {
      this.#pieces.push(this.#bytes.slice(this.#copied, this.#rowStart));
    }
    this.#copied = end;
  }

  #endList(start: number, end: number): void {
    this.#closeList();
    this.#expects = 'nothing';
    this.#takeOutside(start, end);
  }

  #closeList(): void {
    if (this.#leftOutHere > 0) this.#rowsKept.push(this.#keptHere);
    this.#rowsLeftOut += this.#leftOutHere;
    this.#leftOutHere = 0;
  }
}
