import { systemClock } from '../../runtime/clock.ts';
import type { VerbIo } from '../verb.ts';

export type Show = (line: string) => void;

/** Runs one step and prints it, numbered, with its time and what it showed. */
export interface Step {
  <T>(title: string, work: (show: Show) => Promise<T>): Promise<T>;
  /** Prints a step that has been done already. */
  told(title: string, milliseconds: number, lines: readonly string[]): void;
}

export function stepper(io: Pick<VerbIo, 'out'>): Step {
  let count = 0;
  const told = (title: string, milliseconds: number, lines: readonly string[]) => {
    count += 1;
    io.out(`${count}. ${title}  (${Math.round(milliseconds)} ms)`);
    for (const line of lines) io.out(`     ${line}`);
  };
  const step = async <T>(title: string, work: (show: Show) => Promise<T>): Promise<T> => {
    const started = systemClock.monotonicMs();
    const shown: string[] = [];
    const result = await work((line) => shown.push(line));
    told(title, systemClock.monotonicMs() - started, shown);
    return result;
  };
  return Object.assign(step, { told });
}
