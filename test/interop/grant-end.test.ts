/** What is left of a session when its grant has ended. */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { asSuperuser, untilNoSessionRoles } from '../fixtures/shop-catalog.ts';
import { readingWorkload, type Workload } from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

const GRANT_MS = 12_000;

describe('the end of a grant', () => {
  let up: RunningUp;

  before(async function () {
    this.timeout(90_000);
    up = await startUp();
  });
  after(async function () {
    this.timeout(30_000);
    await up[Symbol.asyncDispose]();
  });

  it('G4 takes its sessions and their roles with it, and the certificate opens nothing after', async () => {
    await using brief = await openBriefly(up, GRANT_MS);
    const { workload, expiresAt, role } = brief;
    assert.ok(role.until <= expiresAt);
    assert.equal(role.login, false);
    assert.ok((await brief.ended) >= new Date(Math.floor(expiresAt.getTime() / 1000) * 1000));
    await untilNoSessionRoles(up, 30_000);
    await assert.rejects(workload.connect(), { code: '28000' });
  }).timeout(400_000);
});

interface BriefSession extends AsyncDisposable {
  readonly workload: Workload;
  readonly expiresAt: Date;
  readonly ended: Promise<Date>;
  readonly role: SessionRole;
}

/** As the catalog has it. */
interface SessionRole extends pg.QueryResultRow {
  readonly until: Date;
  readonly login: boolean;
}

/** Under a grant that ends after that time; a longer one where the machine was too slow for it. */
async function openBriefly(up: RunningUp, grantMs: number): Promise<BriefSession> {
  const expiresAt = new Date(Date.now() + grantMs);
  const workload = await readingWorkload(up, `brief-${grantMs}`, { expiresAt });
  const opened = await tryOpen(up, workload).catch((error: Error) => error);
  const dispose = { [Symbol.asyncDispose]: () => workload[Symbol.asyncDispose]() };
  if (!(opened instanceof Error) && new Date() < expiresAt) {
    return { ...opened, ...dispose, workload, expiresAt };
  }
  await dispose[Symbol.asyncDispose]();
  if (new Date() < expiresAt) throw opened;
  return openBriefly(up, grantMs * 4);
}

async function tryOpen(up: RunningUp, workload: Workload) {
  const client = await workload.connect();
  const ended = new Promise<Date>((resolve) => client.once('end', () => resolve(new Date())));
  const { rows } = await client.query('select session_user as name');
  const [role] = await asSuperuser<SessionRole>(
    up,
    `select rolvaliduntil as until, rolcanlogin as login from pg_roles where rolname = '${rows[0].name}'`,
  );
  if (role === undefined) throw new Error('the session has no role');
  return { ended, role };
}
