/** Unmasked values, kept in memory alone, to be looked for in what a session gets. */

const SHORTEST = 6;

export interface RawValue {
  readonly text: string;
  /** As results in binary have it; undefined if its type has no such form. */
  readonly binary: Buffer | undefined;
}

export class Needles {
  readonly #forms: readonly Buffer[];

  /**
   * @param raw values of a column as the table has them
   * @param shown what its mask shows: no leak where both are the same
   */
  constructor(raw: readonly RawValue[], shown: ReadonlySet<string>) {
    const wanted = raw.filter(({ text }) => text.length >= SHORTEST && !shown.has(text));
    const texts = new Set(wanted.flatMap(({ text }) => formsOf(text)));
    const binary = wanted.flatMap(({ binary: bytes }) =>
      bytes === undefined || bytes.length < SHORTEST ? [] : [bytes],
    );
    this.#forms = [...[...texts].map((form) => Buffer.from(form)), ...binary];
  }

  get size(): number {
    return this.#forms.length;
  }

  isIn(bytes: Buffer): boolean {
    return this.#forms.some((form) => bytes.includes(form));
  }
}

function formsOf(value: string): string[] {
  const bytes = Buffer.from(value);
  const base64 = bytes.toString('base64').replace(/.{2}=*$/, '');
  const forms = [value, [...value].reverse().join(''), bytes.toString('hex'), base64];
  const json = JSON.stringify(value).slice(1, -1);
  return [...forms, json].filter(({ length }) => length >= SHORTEST);
}
