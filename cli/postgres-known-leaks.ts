/**
 * Faults of PostgreSQL itself that undo what a database keeps from its sessions, and the first minor
 * version of each branch without them: by some, rows or columns leak past a view, a row policy or a mask;
 * by others, whoever may send SQL can take over the server.
 * Source: https://www.postgresql.org/support/security/ and the CVE records of its project
 */
import type { Finding } from './postgres-finding.ts';

/** What was made known until then is in the tables below. */
export const KNOWN_UNTIL = '2026-11-25';

interface KnownFault {
  readonly cve: string;
  readonly what: string;
  /** Major version to the first minor one that is fixed. */
  readonly fixed: Readonly<Record<number, number>>;
}

/** Of the core server; those that need a superuser's help or a module are left out. */
const KNOWN_TAKEOVERS: readonly KnownFault[] = [
  {
    cve: 'CVE-2026-6460',
    what: 'composite values outlive their type, for who may create objects',
    fixed: { 15: 20, 16: 16, 17: 12, 18: 7 },
  },
  {
    cve: 'CVE-2026-14680',
    what: 'functions can be called with arguments of type internal',
    fixed: { 15: 19, 16: 15, 17: 11, 18: 6 },
  },
  {
    cve: 'CVE-2026-16239',
    what: 'a cursor can be made again with other types',
    fixed: { 15: 19, 16: 15, 17: 11, 18: 6 },
  },
  {
    cve: 'CVE-2026-14669',
    what: 'to_char() overflows with a long time zone, which a client chooses',
    fixed: { 15: 19, 16: 15, 17: 11, 18: 6 },
  },
  {
    cve: 'CVE-2026-6473',
    what: 'sizes wrap around, and allocations are too small',
    fixed: { 15: 18, 16: 14, 17: 10, 18: 4 },
  },
  {
    cve: 'CVE-2026-2006',
    what: 'the length of multibyte characters is not checked',
    fixed: { 15: 16, 16: 12, 17: 8, 18: 2 },
  },
];

const KNOWN_LEAKS: readonly KnownFault[] = [
  {
    cve: 'CVE-2026-6474',
    what: 'timeofday() shows memory of the server',
    fixed: { 15: 18, 16: 14, 17: 10, 18: 4 },
  },
  {
    cve: 'CVE-2026-2003',
    what: 'values of type oidvector show memory of the server',
    fixed: { 15: 16, 16: 12, 17: 8, 18: 2 },
  },
  {
    cve: 'CVE-2025-8713',
    what: "planner statistics tell sampled values of a view's or child's table",
    fixed: { 15: 14, 16: 10, 17: 6 },
  },
  {
    cve: 'CVE-2024-10976',
    what: 'row policies below subqueries keep the rights of another role',
    fixed: { 15: 9, 16: 5, 17: 1 },
  },
  {
    cve: 'CVE-2024-10978',
    what: 'SET ROLE and SET SESSION AUTHORIZATION can reset to the wrong role',
    fixed: { 15: 9, 16: 5, 17: 1 },
  },
  {
    cve: 'CVE-2024-4317',
    what: 'pg_stats_ext and pg_stats_ext_exprs show values to everybody',
    fixed: { 15: 7, 16: 3 },
  },
  {
    cve: 'CVE-2023-5868',
    what: 'aggregates over unknown-type literals show memory of the server',
    fixed: { 15: 5, 16: 1 },
  },
  { cve: 'CVE-2023-39418', what: 'MERGE passes by row policies', fixed: { 15: 4 } },
  {
    cve: 'CVE-2023-2455',
    what: 'row policies keep the rights of another role after inlining',
    fixed: { 15: 3 },
  },
];

/** @param version `server_version_num`, e.g. 150018 */
export function knownLeaks(version: number): readonly Finding[] {
  return faultsIn(KNOWN_LEAKS, version).map(({ cve, what, first, subject }) => ({
    severity: 'critical',
    check: 'server-version',
    subject,
    problem: `${cve}: ${what}; fixed in ${first}`,
  }));
}

/** No setup can keep these from a session: a newer minor version can. */
export function knownTakeovers(version: number): readonly Finding[] {
  return faultsIn(KNOWN_TAKEOVERS, version).map(({ cve, what, first, subject }) => ({
    severity: 'warning',
    check: 'server-takeover',
    subject,
    problem: `${cve}: who may send SQL can run code as the server, because ${what}; fixed in ${first}`,
  }));
}

function faultsIn(faults: readonly KnownFault[], version: number) {
  const major = Math.floor(version / 10_000);
  const minor = version % 10_000;
  return faults.flatMap(({ cve, what, fixed }) => {
    const first = fixed[major];
    if (first === undefined || minor >= first) return [];
    return [{ cve, what, first: `${major}.${first}`, subject: `PostgreSQL ${major}.${minor}` }];
  });
}
