/** All that undoes the protection of one database, found without changing anything (threats P9). */
import type pg from 'pg';
import { checkGatewayLogin, checkOtherLogins } from './postgres-check-logins.ts';
import {
  checkDefiners,
  checkOutward,
  checkRelatives,
  checkTriggers,
  checkViews,
} from './postgres-check-paths.ts';
import {
  checkAllowedSettings,
  checkOurRoles,
  checkQualifiedNames,
  checkRowSecurity,
  checkSetup,
  checkVersion,
} from './postgres-check-state.ts';
import type { CheckSubject, DeclaredBackend } from './postgres-check-subject.ts';
import { bySeverity, type Finding } from './postgres-finding.ts';

const CHECKS: readonly ((subject: CheckSubject) => Promise<Finding[]>)[] = [
  checkVersion,
  checkSetup,
  checkGatewayLogin,
  checkOurRoles,
  checkOtherLogins,
  checkViews,
  checkDefiners,
  checkOutward,
  checkRelatives,
  checkTriggers,
  checkRowSecurity,
  checkAllowedSettings,
  checkQualifiedNames,
];

/**
 * @param client an administrator's connection to the backend's database
 * @returns the most severe first
 */
export async function checkPostgres(
  client: pg.ClientBase,
  declared: DeclaredBackend,
): Promise<readonly Finding[]> {
  return inReadOnly(client, async () => {
    const findings: Finding[] = [];
    for (const check of CHECKS) findings.push(...(await check({ ...declared, client })));
    return bySeverity(findings);
  });
}

/** Runs `use` in a transaction that only reads, with the built-ins' names, and ends it. */
export async function inReadOnly<T>(client: pg.ClientBase, use: () => Promise<T>): Promise<T> {
  await client.query('begin transaction isolation level repeatable read, read only');
  try {
    await client.query("set local search_path = pg_catalog; set local statement_timeout = '30s'");
    return await use();
  } finally {
    await client.query('rollback');
  }
}
