/**
 * Done-when 1 of the PostgreSQL gateway: the leak attempts against the wire layer alone, where sessions share an
 * account that reads the unmasked table. It is best effort: what leaks is printed, and may not grow.
 */
import assert from 'node:assert/strict';
import { runAttempt } from '../corpus/attempt.ts';
import { leaksIn } from '../corpus/leak-forms.ts';
import { leakAttempts, OWNERS_HELPERS_SQL } from '../corpus/leaks.ts';
import { printTable } from '../corpus/print-table.ts';
import { GatewayEnforced } from '../fixtures/gateway-enforced.ts';
import { POSTGRES_VERSIONS, postgresTitle, requirePostgres } from '../fixtures/postgres.ts';
import { SECRETS, SHOP_SQL, shopGrant } from '../fixtures/shop-database.ts';
import { WireClient } from '../fixtures/wire-client.ts';

const READER = shopGrant('corpus-reader');
const SHOWN = `*******${SECRETS.ssn.slice(-4)}`;
const MASKED_ANSWERS = 3;
const MOST_LEAKS = 0;

for (const version of POSTGRES_VERSIONS) {
  describe(`the corpus, wire layer alone, on ${postgresTitle(version)}`, () => {
    let world: GatewayEnforced;
    before(async function () {
      this.timeout(60_000);
      requirePostgres(this, version);
      const sql = `${SHOP_SQL} ${OWNERS_HELPERS_SQL}; analyze`;
      world = await GatewayEnforced.start({ version, sql, grant: READER });
    });
    after(async () => world?.[Symbol.asyncDispose]());

    it('leaks no more than it is known to', async () => {
      const [row] = await world.server.exec(
        `select oid::int from pg_proc where proname = 'query_to_xml'`,
      );
      const attempts = leakAttempts(Number(row?.oid));
      const leaks: string[] = [];
      let masked = 0;
      for (const attempt of attempts) {
        using client = await WireClient.secure(world.wire.port, world.wire.tls);
        const { bytes } = await runAttempt(client, attempt);
        if (leaksIn(bytes).length > 0) leaks.push(attempt.name);
        if (bytes.includes(SHOWN)) masked += 1;
      }
      printTable(
        `${attempts.length} leak attempts, the wire layer alone, PostgreSQL ${version}: ${leaks.length} leaked`,
        ['leaked'],
        leaks.map((name) => [name]),
      );
      assert.ok(leaks.length <= MOST_LEAKS, `${leaks.length} leaked`);
      assert.ok(masked > MASKED_ANSWERS, `the masked form was seen by ${masked} attempts`);
    }).timeout(120_000);
  });
}
