/** The blocks of docs/clients.md, run as they stand there. */
import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import type { PostgresVersion } from '../fixtures/postgres.ts';
import { ROOT } from '../fixtures/programs.ts';
import { type Outcome, runProgram } from '../fixtures/writ-up.ts';
import { type Snippet, snippets } from './client-page.ts';
import { postgresTools, pythonFile } from './client-programs.ts';
import { type ClientWorld, MASKED_SSN } from './client-world.ts';

const PROGRAMS = [
  'psql, pg_dump, pgbench',
  'node-postgres, Drizzle',
  'psycopg, SQLAlchemy',
  'asyncpg',
];

export function describePage(world: () => ClientWorld): void {
  for (const heading of PROGRAMS) {
    it(`G5 docs/clients.md: ${heading} as it is written`, async () => {
      const { through, folder, version } = world();
      const [snippet] = snippets(heading, through, dirname(through.cert ?? ''));
      assert.ok(snippet);
      const { status, stdout, stderr } = await run(snippet, folder, version);
      assert.equal(status, 0, stderr);
      assert.ok(stdout.includes(MASKED_SSN), stdout);
    });
  }
}

/** Node finds packages from where it runs. */
function run({ language, text }: Snippet, cwd: string, version: PostgresVersion): Promise<Outcome> {
  if (language === 'python') return runProgram(pythonFile(), ['-c', text], { cwd });
  if (language === 'sh') {
    const { bin = '', env: more } = postgresTools(version) ?? {};
    const env = { ...process.env, ...more, PATH: `${bin}:${process.env.PATH}` };
    return runProgram('bash', ['-euo', 'pipefail', '-c', text], { cwd, env });
  }
  assert.equal(language, 'js');
  return runProgram(process.execPath, ['--input-type=module', '-e', text], { cwd: ROOT });
}
