import { setImmediate as breathe } from 'node:timers/promises';
import { FAULTS, Fault } from '../../runtime/fault.ts';

/** What one item of a batch can fail with alone; the numbers are gRPC's. */
const ITEM_CODES = {
  INVALID_ARGUMENT: 3,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  FAILED_PRECONDITION: 9,
} as const;

/** Items between two looks at what else there is to do: a few milliseconds. */
const CHUNK = 10;

/** SPIRE's message for the outcome of one item. */
export interface ItemStatus {
  readonly code: number;
  readonly message: string;
}

export const ITEM_OK: ItemStatus = { code: 0, message: 'OK' };

/** The status of an item that failed, or undefined if the failure is the whole call's. */
export function itemStatus(error: unknown): ItemStatus | undefined {
  if (!(error instanceof Fault)) return undefined;
  const name = FAULTS[error.code].grpc;
  return name in ITEM_CODES
    ? { code: ITEM_CODES[name as keyof typeof ITEM_CODES], message: error.message }
    : undefined;
}

/** The same where the failure has to be the item's. @throws what is the whole call's */
export function itemStatusOf(error: unknown): ItemStatus {
  const status = itemStatus(error);
  if (status === undefined) throw error;
  return status;
}

/**
 * The outcome of each item in order. One that fails is told by `failed`, and the others go on; it must
 * fail before it has written anything.
 */
export async function eachItem<T, R>(
  items: readonly T[],
  act: (item: T) => Promise<R>,
  failed: (status: ItemStatus, item: T) => R,
): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) {
    if (results.length % CHUNK === CHUNK - 1) await breathe();
    try {
      results.push(await act(item));
    } catch (error) {
      results.push(failed(itemStatusOf(error), item));
    }
  }
  return results;
}
