/** How much a session, and all of one identity under one grant in one day, may do. */
import { durationMs } from '@bufbuild/protobuf/wkt';
import type { SessionLimits } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { DayUse, Spendable } from './day-use.ts';

const DEFAULT_ERRORS = 20;
const DEFAULT_IDLE_MS = 5 * 60 * 1000;

/** Ends the session: a budget is used up. Its message names the budget. */
export class BudgetFault extends Fault {
  constructor(budget: string) {
    super('RESOURCE_EXHAUSTED', `the budget is used up: ${budget}`);
  }
}

type Limits = ReadonlyMap<Spendable, number>;

/**
 * The budgets of one session. Each call tells what is about to happen, before it does: what would be
 * beyond a limit does not happen. All throw BudgetFault, and Fault UNAVAILABLE if the day's use cannot
 * be kept.
 */
export class Budget {
  readonly idleInTransactionMs: number;
  readonly #session: Limits;
  readonly #perDay: Limits;
  readonly #day: DayUse | undefined;
  readonly #mostErrors: number;
  readonly #isFree: boolean;
  readonly #used = new Map<Spendable, number>();
  #errors = 0;
  #tickedMs: number | undefined;

  /** @param day undefined if nothing is limited by day */
  constructor(limits: SessionLimits | undefined, day: DayUse | undefined) {
    this.#session = limitsOf(limits);
    const { perDay } = limits ?? {};
    const duration = perDay?.duration === undefined ? 0 : durationMs(perDay.duration);
    this.#perDay = new Map([...limitsOf(perDay), ...limit('milliseconds', duration)]);
    this.#day = day;
    this.#isFree = this.#session.size === 0 && this.#perDay.size === 0;
    this.#mostErrors = limits?.errors || DEFAULT_ERRORS;
    const idle = limits?.idleInTransaction;
    this.idleInTransactionMs = idle === undefined ? DEFAULT_IDLE_MS : durationMs(idle);
  }

  /** Whether a grant limits anything by day. */
  static isByDay(limits: SessionLimits | undefined): boolean {
    const { perDay } = limits ?? {};
    return perDay !== undefined && (limitsOf(perDay).size > 0 || perDay.duration !== undefined);
  }

  statement(): void {
    this.#day?.refresh();
    this.#spend('statements', 1);
    this.#save();
  }

  row(): void {
    this.#spend('rows', 1);
  }

  /** Bytes that are about to go to the client, with the rows in them. */
  bytes(count: number): void {
    this.#day?.refresh();
    this.#spend('bytes', count);
    this.#save();
  }

  /** @param sqlstate of an error that the client gets: class 23 tells what a table holds (threats P10) */
  error(sqlstate: string): void {
    if (!sqlstate.startsWith('23')) return;
    this.#errors += 1;
    if (this.#errors <= this.#mostErrors) return;
    throw new BudgetFault(`${this.#mostErrors} constraint errors in a session`);
  }

  /** Counts the time that the session is open. */
  tick(nowMs: number): void {
    const most = this.#perDay.get('milliseconds');
    if (most === undefined || this.#day === undefined) return;
    const elapsed = Math.max(0, Math.round(nowMs - (this.#tickedMs ?? nowMs)));
    this.#tickedMs = nowMs;
    this.#day.add('milliseconds', elapsed);
    this.#day.save();
    if (this.#day.used('milliseconds') >= most)
      throw new BudgetFault(`${Math.round(most / 1000)} s of sessions in a day`);
  }

  /** Another process may have spent the same rest at this very time: then neither has it. */
  #save(): void {
    this.#day?.save();
    if (this.#day?.isShared !== true) return;
    for (const [what, most] of this.#perDay) {
      if (what !== 'milliseconds' && this.#day.used(what) > most) throw usedUp(what, most);
    }
  }

  #spend(what: Spendable, count: number): void {
    // Called for every row: most sessions have no limit.
    if (this.#isFree) return;
    const most = this.#session.get(what);
    if (most !== undefined) {
      const used = (this.#used.get(what) ?? 0) + count;
      if (used > most) throw new BudgetFault(`${most} ${what} in a session`);
      this.#used.set(what, used);
    }
    const mostInDay = this.#perDay.get(what);
    if (mostInDay === undefined || this.#day === undefined) return;
    if (this.#day.used(what) + count > mostInDay) throw usedUp(what, mostInDay);
    this.#day.add(what, count);
  }
}

function usedUp(what: Spendable, mostInDay: number): BudgetFault {
  return new BudgetFault(`${mostInDay} ${what} in a day`);
}

function limitsOf(
  limits: { rows: bigint; bytes: bigint; statements: bigint } | undefined,
): Map<Spendable, number> {
  const { rows = 0n, bytes = 0n, statements = 0n } = limits ?? {};
  return new Map([
    ...limit('rows', Number(rows)),
    ...limit('bytes', Number(bytes)),
    ...limit('statements', Number(statements)),
  ]);
}

function limit(what: Spendable, most: number): [Spendable, number][] {
  return most === 0 ? [] : [[what, most]];
}
