/** How the attempts of a corpus came out, one way of protection beside the other. */
import type { Heard } from './attempt.ts';
import { printTable } from './print-table.ts';

const OUTCOMES = [
  'refused by the gateway',
  'refused by the database',
  'no session',
  'answered',
] as const;

type Outcome = (typeof OUTCOMES)[number] | 'broken';

/** Of one way of protection. */
export class Tally {
  readonly name: string;
  /** Names of the attempts that came through: with a masked value, or with an effect. */
  readonly broken: string[] = [];
  readonly #counts = new Map<Outcome, number>();

  constructor(name: string) {
    this.name = name;
  }

  add(attempt: string, heard: Heard, isBroken: boolean): void {
    if (isBroken) this.broken.push(attempt);
    const outcome = isBroken ? 'broken' : outcomeOf(heard);
    this.#counts.set(outcome, (this.#counts.get(outcome) ?? 0) + 1);
  }

  get row(): readonly (string | number)[] {
    return [this.name, this.broken.length, ...OUTCOMES.map((one) => this.#counts.get(one) ?? 0)];
  }
}

/** @param broken what it is called where an attempt comes through */
export function printTallies(title: string, broken: string, tallies: readonly Tally[]): void {
  const answered = `answered, nothing ${broken}`;
  const head = ['', broken, ...OUTCOMES.slice(0, -1), answered];
  printTable(
    title,
    head,
    tallies.map(({ row }) => row),
  );
}

/** Who refused it first. */
function outcomeOf({ errors, opened }: Heard): Outcome {
  const [first] = errors;
  if (!opened) return 'no session';
  if (first === undefined) return 'answered';
  return /^refused by the gateway: /.test(first.message)
    ? 'refused by the gateway'
    : 'refused by the database';
}
