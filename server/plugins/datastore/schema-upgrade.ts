import { Fault } from '../../../runtime/fault.ts';
import type { Transaction } from './datastore.ts';
import type { Migration } from './migrations.ts';

/**
 * Lets a store of an older schema be brought up to date, and writes its part of that transaction.
 * Whatever it throws leaves the store as it was.
 * @param tx on the new schema
 */
export type Upgrade = (tx: Transaction, from: number) => Promise<void>;

/** The same, of a store that makes the transaction. */
export type Addition = (from: number) => Promise<void>;

/**
 * The migrations that a store needs.
 * @param version that it has, 0 if it is empty
 * @throws Fault STATE_UNUSABLE if it is newer than the program, or older and no upgrade was asked for
 */
export function migrationsFrom(
  version: number,
  migrations: readonly Migration[],
  mayUpgrade: boolean,
): readonly Migration[] {
  const newest = migrations.at(-1)?.version ?? 0;
  if (version > newest) throw newerSchema(version, newest);
  if (version > 0 && version < newest && !mayUpgrade)
    throw unusable(
      `the store has schema version ${version}, this program ${newest}: run writ server upgrade --config FILE --backup OUT`,
    );
  return migrations.filter((one) => one.version > version);
}

/** Refuses a store that a newer program has used. */
export function newerSchema(version: number, newest: number): Fault {
  return unusable(
    `the store has schema version ${version}, this program knows ${newest}: run the newer program`,
  );
}

function unusable(message: string): Fault {
  return new Fault('STATE_UNUSABLE', message);
}
