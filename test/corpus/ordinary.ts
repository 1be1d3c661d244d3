/**
 * What applications and tools send all day: their forms are those of the named program, on the tables of
 * `ordinary-shop.ts`. None may be refused to a grant that reads and writes these tables.
 */
import { CATALOGUE_STATEMENTS } from './ordinary-catalogue.ts';
import { READING_STATEMENTS } from './ordinary-reads.ts';
import { SESSION_STATEMENTS } from './ordinary-sessions.ts';
import type { OrdinarySet } from './ordinary-set.ts';
import { WRITING_STATEMENTS } from './ordinary-writes.ts';

export const ORDINARY: readonly OrdinarySet[] = [
  ...SESSION_STATEMENTS,
  ...CATALOGUE_STATEMENTS,
  ...READING_STATEMENTS,
  ...WRITING_STATEMENTS,
];
