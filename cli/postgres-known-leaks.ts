/**
 * Faults of PostgreSQL itself by which rows or columns leak past a view, a row policy or a mask, and
 * the first minor version of each branch without them.
 * Source: https://www.postgresql.org/support/security/
 */
import type { Finding } from './postgres-finding.ts';

interface KnownLeak {
  readonly cve: string;
  readonly what: string;
  /** Major version to the first minor one that is fixed. */
  readonly fixed: Readonly<Record<number, number>>;
}

const KNOWN_LEAKS: readonly KnownLeak[] = [
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
  const major = Math.floor(version / 10_000);
  const minor = version % 10_000;
  return KNOWN_LEAKS.flatMap(({ cve, what, fixed }): Finding[] => {
    const first = fixed[major];
    if (first === undefined || minor >= first) return [];
    return [
      {
        severity: 'critical',
        check: 'server-version',
        subject: `PostgreSQL ${major}.${minor}`,
        problem: `${cve}: ${what}; fixed in ${major}.${first}`,
      },
    ];
  });
}
