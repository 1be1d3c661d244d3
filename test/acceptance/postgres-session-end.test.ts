/** G2: a session ends at the earliest of its grant's end and its longest life, whatever it is doing. */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { POSTGRES_VERSIONS, postgresTitle, requirePostgres } from '../fixtures/postgres.ts';
import { until } from '../fixtures/restarts.ts';
import { addUpShop, type UpShop } from '../fixtures/up-shop.ts';
import type { GrantOptions } from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

const PROMISED_MS = 1000;
const LIFE_MS = 8000;
const ACTIVITIES: Readonly<Record<string, string | undefined>> = {
  idle: undefined,
  active: 'select pg_sleep(600)',
  'in mid-COPY': 'copy (select repeat($$x$$, 1000) from generate_series(1, 1000000000)) to stdout',
};

for (const version of POSTGRES_VERSIONS) {
  describe(`G2 a session on ${postgresTitle(version)}`, () => {
    let up: RunningUp;
    let shop: UpShop;
    before(async function () {
      this.timeout(90_000);
      requirePostgres(this, version);
      up = await startUp();
      shop = await addUpShop(up, { version });
    });
    after(async function () {
      this.timeout(30_000);
      await shop?.[Symbol.asyncDispose]();
      await up?.[Symbol.asyncDispose]();
    });

    /** @param end when it has to end, given when it was opened */
    async function assertEnds(
      name: string,
      grant: Partial<GrantOptions>,
      end: (openedAt: number) => number,
    ): Promise<void> {
      await using workload = await shop.workload(name, grant);
      const ends = Object.entries(ACTIVITIES).map(async ([activity, sql]) => {
        const client = await shop.connect(workload);
        const dueAt = end(Date.now());
        let code: string | undefined;
        const { connection } = client as unknown as { connection: NodeJS.EventEmitter };
        connection.on('errorMessage', (error: pg.DatabaseError) => {
          code ??= error.code;
        });
        client.on('error', () => undefined);
        const gone = new Promise<void>((resolve) => client.on('end', () => resolve()));
        if (sql !== undefined) client.query(sql).catch(() => undefined);
        await gone;
        return { activity, code, lateMs: Date.now() - dueAt };
      });
      for (const { activity, code, lateMs } of await Promise.all(ends)) {
        assert.ok(lateMs <= PROMISED_MS, `${activity}: ended ${lateMs} ms late`);
        assert.ok(lateMs > -LIFE_MS / 2, `${activity}: ended ${-lateMs} ms early`);
        // In the middle of a message there is no place for a word.
        if (activity !== 'in mid-COPY') assert.equal(code, '57P01', activity);
      }
      await until(async () => (await shop.leftovers()).length === 0, 5000, 'nothing is left');
    }

    it('ends with its grant, be it idle, active or in mid-COPY', async () => {
      const expiresAt = new Date(Date.now() + LIFE_MS + 4000);
      await assertEnds('ends-with-grant', { expiresAt }, () => expiresAt.getTime());
    }).timeout(40_000);

    it('ends after its longest life, be it idle, active or in mid-COPY', async () => {
      const session = { maximum: `${LIFE_MS / 1000}s` };
      await assertEnds('ends-by-itself', { session }, (openedAt) => openedAt + LIFE_MS);
    }).timeout(40_000);
  });
}
