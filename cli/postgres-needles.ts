/** Unmasked values, kept in memory alone, to be looked for in what a session gets. */

const SHORTEST = 6;

export class Needles {
  readonly #forms: readonly Buffer[];

  /**
   * @param raw values of a column as the table has them
   * @param shown what its mask shows: no leak where both are the same
   */
  constructor(raw: readonly string[], shown: ReadonlySet<string>) {
    const wanted = raw.filter((value) => value.length >= SHORTEST && !shown.has(value));
    this.#forms = [...new Set(wanted.flatMap(formsOf))].map((form) => Buffer.from(form));
  }

  get size(): number {
    return this.#forms.length;
  }

  isIn(text: string): boolean {
    const bytes = Buffer.from(text);
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
