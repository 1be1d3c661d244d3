/** Done-when 1 of the PostgreSQL gateway: leak attempts and destructive statements, with their tables. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Layout } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { type Attempt, type Heard, runAttempt } from '../corpus/attempt.ts';
import { destructiveAttempts, HELPERS_SQL } from '../corpus/destructive.ts';
import { infer } from '../corpus/inference.ts';
import { leaksIn } from '../corpus/leak-forms.ts';
import { leakAttempts, OWNERS_HELPERS_SQL } from '../corpus/leaks.ts';
import { printTable } from '../corpus/print-table.ts';
import { returnsTo, shopState } from '../corpus/shop-state.ts';
import { onEachPostgres } from '../fixtures/each-postgres.ts';
import type { TestPostgres } from '../fixtures/postgres.ts';
import { connectAs, SECRETS, SHOP_SQL, shopGrant } from '../fixtures/shop-database.ts';
import { type ShopGateway, startShopGateway } from '../fixtures/shop-gateway.ts';

const READER = shopGrant('corpus-reader');
/** No statement rules: the database's rights hold alone. */
const UNRULED = shopGrant('corpus-unruled', {
  select: ['public.customers', 'public.orders'],
  statements: ['any'],
});
const CLERK = shopGrant('corpus-clerk', {
  select: ['public.customers', 'public.orders'],
  insert: ['public.orders'],
  statements: ['read', 'write'],
});
/** What a mask shows of it. */
const SHOWN = `*******${SECRETS.ssn.slice(-4)}`;
/** Attempts that answer with a masked value, at the least. */
const MASKED_ANSWERS = 20;
const LEAK_ATTEMPTS = 60;
const DESTRUCTIVE_ATTEMPTS = 50;

for (const [layoutName, layout] of [
  ['front', Layout.FRONT],
  ['in-place', Layout.IN_PLACE],
] as const) {
  onEachPostgres(`the corpus, layout ${layoutName},`, (server, version) => {
    let gateway: ShopGateway;
    before(async () => {
      await server().exec(`${SHOP_SQL} ${HELPERS_SQL} ${OWNERS_HELPERS_SQL}; analyze`);
      gateway = await startShopGateway(server(), [READER, UNRULED, CLERK], { layout });
    });
    after(() => gateway?.[Symbol.asyncDispose]());

    const attempted = async (grant: typeof READER, attempt: Attempt): Promise<Heard> => {
      using client = await gateway.dial(grant);
      return await runAttempt(client, attempt);
    };

    for (const [rules, grant] of [
      ['with statement rules', READER],
      ['without statement rules', UNRULED],
    ] as const) {
      it(`has no leak attempt that gets a masked value, behind masked views, ${rules}`, async () => {
        const attempts = leakAttempts(await oidOf(server(), 'query_to_xml'));
        const leaks: string[] = [];
        let masked = 0;
        const outcomes = new Map<string, number>();
        for (const attempt of attempts) {
          const heard = await attempted(grant, attempt);
          const found = leaksIn(heard.bytes);
          masked += Number(heard.bytes.includes(SHOWN));
          if (found.length > 0) leaks.push(`${attempt.name}: ${found.join(' ')}`);
          const outcome = found.length > 0 ? 'leaked' : outcomeOf(heard);
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        }
        printTable(
          `${attempts.length} leak attempts, masked views in the layout ${layoutName}, ${rules}, PostgreSQL ${version}: ${leaks.length} leaked`,
          ['outcome', 'attempts'],
          byCount(outcomes),
        );
        assert.deepEqual(leaks, []);
        assert.ok(attempts.length >= LEAK_ATTEMPTS);
        assert.ok(masked > MASKED_ANSWERS, `the masked form was seen by ${masked} attempts`);
      }).timeout(120_000);
    }

    it('tells by counts no more than a mask shows', async () => {
      const table = layout === Layout.FRONT ? 'customers' : 'public.customers';
      const asked = { column: 'ssn', length: SECRETS.ssn.length };
      await using client = await gateway.connect(READER);
      assert.equal(await infer(client, { ...asked, table }), `???????${SECRETS.ssn.slice(-4)}`);
      const base = layout === Layout.FRONT ? table : 'writ_base_public.customers';
      const { user, password } = server();
      await using owner = await connectAs(server(), { user, password });
      assert.equal(await infer(owner, { ...asked, table: base }), SECRETS.ssn, 'without a mask');
    }).timeout(60_000);

    it('has no destructive statement that changes the database, by its own state', async () => {
      const canary = join(tmpdir(), `writ-canary-${server().port}`);
      const attempts = destructiveAttempts(canary, await oidOf(server(), 'wipe'));
      await using victim = await connectAs(server(), {
        user: server().user,
        password: server().password,
      });
      await victim.query("set application_name = 'victim'");
      const executed: string[] = [];
      const outcomes = new Map<string, number>();
      const untouched = await shopState(server());
      for (const attempt of attempts) {
        const outcome = outcomeOf(await attempted(CLERK, attempt));
        const isIntact = (await returnsTo(server(), untouched)) && !existsSync(canary);
        if (!isIntact) executed.push(attempt.name);
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }
      printTable(
        `${attempts.length} destructive statements, layout ${layoutName}, PostgreSQL ${version}: ${executed.length} executed`,
        ['outcome', 'statements'],
        byCount(outcomes),
      );
      assert.deepEqual(executed, []);
      assert.ok(attempts.length >= DESTRUCTIVE_ATTEMPTS);
      assert.equal((await victim.query('select 1 as one')).rows[0].one, 1);
    }).timeout(120_000);
  });
}

/** Who refused it first. */
function outcomeOf({ errors, opened }: Heard): string {
  const [first] = errors;
  if (!opened) return `no session: ${first?.sqlstate ?? 'closed'}`;
  if (first === undefined) return 'answered';
  const rule = /^refused by the gateway: (\S+)/.exec(first.message)?.[1];
  return rule === undefined
    ? `refused with ${first.sqlstate}`
    : `refused by the gateway's rule ${rule}`;
}

function byCount(outcomes: ReadonlyMap<string, number>): (readonly [string, number])[] {
  return [...outcomes].sort(([, one], [, other]) => other - one);
}

async function oidOf(server: TestPostgres, name: string): Promise<number> {
  const [row] = await server.exec(`select oid::int from pg_proc where proname = '${name}'`);
  return Number(row?.oid);
}
