/**
 * Patterns that an operator writes, in a language that is matched in linear time: a sequence of
 * characters and classes, each with a bounded repeat that takes as much as it can and gives nothing
 * back. No groups, alternatives, anchors or references.
 */

/** One element: which bytes, how often. */
interface Step {
  readonly bytes: Uint8Array;
  readonly least: number;
  readonly most: number;
}

const LONGEST_PATTERN = 200;
const MOST_REPEATS = 256;
const LONGEST_MATCH = 1024;
const CLASS_ESCAPES: Readonly<Record<string, string>> = { d: '0-9', w: 'A-Za-z0-9_', s: ' ' };
const SPECIAL = '()|*^$?+{}]';

export class PatternError extends Error {}

export interface Pattern {
  /** Where a match that begins at `at` ends; 0 if there is none. */
  match(data: Uint8Array, at: number, end: number): number;
}

/** @throws PatternError that says what is not understood */
export function compilePattern(text: string): Pattern {
  const steps = new PatternReader(text).steps();
  return {
    match(data, start, end) {
      let at = start;
      for (const { bytes, least, most } of steps) {
        let taken = 0;
        while (taken < most && at < end && bytes[data[at] ?? 0] === 1) {
          at += 1;
          taken += 1;
        }
        if (taken < least) return 0;
      }
      return at;
    },
  };
}

class PatternReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    if (text.length > LONGEST_PATTERN) throw new PatternError('it is too long');
    if (!/^[ -~]*$/.test(text))
      throw new PatternError('it has other characters than printable ASCII');
    this.#text = text;
  }

  steps(): Step[] {
    const steps: Step[] = [];
    while (this.#at < this.#text.length) {
      const bytes = this.#element();
      steps.push({ bytes, ...this.#repeat() });
    }
    const least = steps.reduce((sum, step) => sum + step.least, 0);
    const most = steps.reduce((sum, step) => sum + step.most, 0);
    if (least < 4) throw new PatternError('it matches fewer than 4 characters');
    if (most > LONGEST_MATCH) throw new PatternError(`it matches over ${LONGEST_MATCH} characters`);
    return steps;
  }

  #element(): Uint8Array {
    const character = this.#next();
    if (character === '[') return this.#class();
    if (character === '\\') return this.#escaped();
    if (character === '.') return range(0x20, 0x7e);
    if (SPECIAL.includes(character)) {
      throw new PatternError(
        `"${character}" is not served: characters, classes, repeats {m,n} are`,
      );
    }
    return single(character);
  }

  #escaped(): Uint8Array {
    const character = this.#next();
    const named = CLASS_ESCAPES[character];
    if (named !== undefined) return classOf(named);
    if (/[A-Za-z0-9]/.test(character)) throw new PatternError(`"\\${character}" is not served`);
    return single(character);
  }

  #class(): Uint8Array {
    const negated = this.#text[this.#at] === '^';
    if (negated) this.#at += 1;
    const bytes = new Uint8Array(256);
    for (let character = this.#next(); character !== ']'; character = this.#next()) {
      if (character === '[') throw new PatternError('a class in a class is not served');
      const first = character === '\\' ? this.#escaped() : single(character);
      const isRange =
        this.#text[this.#at] === '-' && this.#text[this.#at + 1] !== ']' && character !== '\\';
      if (!isRange) merge(bytes, first);
      else {
        this.#at += 1;
        const last = this.#next();
        if (last === '\\' || last < character)
          throw new PatternError('a range ends before it begins');
        merge(bytes, range(character.charCodeAt(0), last.charCodeAt(0)));
      }
    }
    return negated ? bytes.map((bit) => 1 - bit) : bytes;
  }

  #repeat(): { least: number; most: number } {
    const rest = this.#text.slice(this.#at);
    if (rest.startsWith('?')) {
      this.#at += 1;
      return { least: 0, most: 1 };
    }
    const found = /^\{(\d{1,4})(?:,(\d{1,4}))?\}/.exec(rest);
    if (found === null) return { least: 1, most: 1 };
    this.#at += found[0].length;
    const least = Number(found[1]);
    const most = Number(found[2] ?? found[1]);
    if (most < least || most > MOST_REPEATS || most === 0) {
      throw new PatternError(`repeats go up to ${MOST_REPEATS}`);
    }
    return { least, most };
  }

  #next(): string {
    const character = this.#text[this.#at];
    if (character === undefined) throw new PatternError('it ends too early');
    this.#at += 1;
    return character;
  }
}

function single(character: string): Uint8Array {
  return range(character.charCodeAt(0), character.charCodeAt(0));
}

function range(first: number, last: number): Uint8Array {
  return new Uint8Array(256).fill(1, first, last + 1);
}

function merge(into: Uint8Array, other: Uint8Array): void {
  for (let byte = 0; byte < 256; byte += 1) if (other[byte] === 1) into[byte] = 1;
}

/** @param ranges e.g. `A-Za-z_` */
function classOf(ranges: string): Uint8Array {
  const bytes = new Uint8Array(256);
  for (const part of ranges.match(/.-.|./g) ?? []) {
    merge(bytes, range(part.charCodeAt(0), part.charCodeAt(part.length - 1)));
  }
  return bytes;
}
