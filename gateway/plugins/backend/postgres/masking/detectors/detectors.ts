import {
  DetectorAction,
  type PostgresBackend,
} from '../../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { compilePattern, type Pattern } from '../../../../../../runtime/byte-pattern.ts';
import { BUILT_IN, type Look } from './built-in.ts';

interface Rule {
  readonly name: string;
  readonly masks: boolean;
  readonly look: Look;
}

interface RuleTable {
  readonly byByte: readonly (readonly Rule[] | undefined)[];
  readonly masks: boolean;
}

/** Told of each finding, without its value. */
export type OnFound = (detector: string, masked: boolean) => void;

const STAR = 0x2a;
const ZERO = 0x30;

/** The detectors and patterns of one backend, as one scan over the bytes of a cell. */
export class Detectors {
  /** Rules to try at a byte. */
  readonly #byByte: RuleTable['byByte'];
  readonly #onFound: OnFound;
  /** Whether anything is overwritten. */
  readonly masks: boolean;

  private constructor(table: RuleTable, onFound: OnFound) {
    this.#byByte = table.byByte;
    this.masks = table.masks;
    this.#onFound = onFound;
  }

  static #tableOf(rules: readonly (readonly [string, Rule])[]): RuleTable {
    const byByte: Rule[][] = Array.from({ length: 256 }, () => []);
    for (const [triggers, rule] of rules) {
      for (const byte of Buffer.from(triggers, 'latin1')) byByte[byte]?.push(rule);
    }
    // What is overwritten goes before what is only told of.
    for (const some of byByte) some.sort((one, other) => Number(other.masks) - Number(one.masks));
    return {
      byByte: byByte.map((some) => (some.length === 0 ? undefined : some)),
      masks: rules.some(([, { masks }]) => masks),
    };
  }

  /** The same detectors, which tell of what they find here too. */
  tellingToo(onFound: OnFound): Detectors {
    const before = this.#onFound;
    return new Detectors({ byByte: this.#byByte, masks: this.masks }, (detector, masked) => {
      before(detector, masked);
      onFound(detector, masked);
    });
  }

  /** @returns undefined for a backend without any @throws PatternError */
  static of(
    { detectors, patterns }: Pick<PostgresBackend, 'detectors' | 'patterns'>,
    onFound: OnFound,
  ): Detectors | undefined {
    const rules: (readonly [string, Rule])[] = [];
    for (const { kind, action } of detectors) {
      const builtIn = BUILT_IN.get(kind);
      // One that this gateway does not know must not be taken for one that finds nothing.
      if (builtIn === undefined) throw new Error(`detector "${kind}" is not known`);
      const { triggers, look } = builtIn;
      rules.push([triggers, { name: kind, masks: action !== DetectorAction.ALERT, look }]);
    }
    for (const { name, pattern, action } of patterns) {
      const compiled = compilePattern(pattern);
      const rule = { name, masks: action !== DetectorAction.ALERT, look: lookFor(compiled) };
      rules.push([ALL_BYTES, rule]);
    }
    return rules.length === 0 ? undefined : new Detectors(Detectors.#tableOf(rules), onFound);
  }

  /** Overwrites in place what is found in the cell. */
  scan(data: Buffer, start: number, end: number): void {
    const byByte = this.#byByte;
    for (let at = start; at < end; at += 1) {
      const rules = byByte[data[at] ?? ZERO];
      if (rules === undefined) continue;
      for (const rule of rules) {
        const found = rule.look(data, at, start, end);
        if (found === undefined) continue;
        this.#onFound(rule.name, rule.masks);
        if (rule.masks) data.fill(STAR, found.start, found.end);
        at = Math.max(at, found.end - 1);
        break;
      }
    }
  }

  /** Scans every cell of a whole DataRow, `data[start]` being its type. @returns false if it is malformed */
  scanRow(data: Buffer, start: number, end: number): boolean {
    let at = start + 7;
    if (at > end) return false;
    for (let left = data.readUInt16BE(start + 5); left > 0; left -= 1) {
      if (end - at < 4) return false;
      const length = data.readInt32BE(at);
      at += 4;
      if (length === -1) continue;
      if (length < 0 || length > end - at) return false;
      this.scan(data, at, at + length);
      at += length;
    }
    return at === end;
  }
}

const ALL_BYTES = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)).toString('latin1');

function lookFor(pattern: Pattern): Look {
  return (data, at, _start, end) => {
    const matched = pattern.match(data, at, end);
    return matched === 0 ? undefined : { start: at, end: matched };
  };
}
