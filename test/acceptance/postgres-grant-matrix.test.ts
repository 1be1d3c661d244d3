/** G12: of all identities and backends, those connect that a grant names together, and no others. */
import assert from 'node:assert/strict';
import pg from 'pg';
import { availableVersions } from '../fixtures/postgres.ts';
import { skipWithout } from '../fixtures/programs.ts';
import { until } from '../fixtures/restarts.ts';
import { addUpShop, type UpShop } from '../fixtures/up-shop.ts';
import {
  applyDocuments,
  grantDocument,
  makeWorkload,
  type Workload,
} from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

/** Backends that each identity has a grant on, by their place in the list of all. */
const GRANTED: Readonly<Record<string, readonly number[]>> = {
  'of-none': [],
  'of-first': [0],
  'of-second': [1],
  'of-third': [2],
  'of-two': [0, 2],
};
const NOWHERE = 'not-a-backend';

describe('G12 the matrix of identities and backends', () => {
  let up: RunningUp;
  const shops: UpShop[] = [];
  const workloads = new Map<string, Workload>();
  let backends: string[];
  before(async function () {
    this.timeout(120_000);
    if (availableVersions().length < 2) skipWithout(this, 'PostgreSQL 15 and 18');
    up = await startUp();
    for (const version of availableVersions()) shops.push(await addUpShop(up, { version }));
    backends = [up.json.demo.backend, ...shops.map(({ backend }) => backend)];
    for (const [name, granted] of Object.entries(GRANTED)) {
      const workload = await makeWorkload(up, name);
      workloads.set(name, workload);
      for (const at of granted) {
        const backend = backends[at] ?? assert.fail(name);
        const document = grantDocument({
          ...{ name: `${name}-${at}`, identity: workload.spiffeId, backend },
          postgres: { select: ['public.orders'], statements: ['read'] },
        });
        const shop = shops.find((one) => one.backend === backend);
        await (shop === undefined ? applyDocuments(up, [document]) : shop.apply([document]));
      }
    }
  });
  after(async function () {
    this.timeout(30_000);
    for (const workload of workloads.values()) await workload[Symbol.asyncDispose]();
    for (const shop of shops) await shop[Symbol.asyncDispose]();
    await up?.[Symbol.asyncDispose]();
  });

  /** @returns the SQLSTATE that it is refused with */
  async function outcomeOf(workload: Workload, database: string): Promise<string | undefined> {
    try {
      const client = await workload.connect({ database });
      await client.query('select count(*) from orders');
      await client.end();
      return undefined;
    } catch (error) {
      return error instanceof pg.DatabaseError ? error.code : String(error);
    }
  }

  it('connects what is granted, refuses and audits all else', async () => {
    const denied: string[] = [];
    for (const [name, workload] of workloads) {
      for (const [at, backend] of [...backends, NOWHERE].entries()) {
        const isGranted = GRANTED[name]?.includes(at) === true;
        const outcome = await outcomeOf(workload, backend);
        assert.equal(outcome, isGranted ? undefined : '28000', `${name} on ${backend}`);
        if (!isGranted) denied.push(`${workload.spiffeId} ${backend}`);
      }
    }
    let missing = denied;
    const areAudited = async () => {
      const { stdout } = await up.writ('audit', 'tail', '--last', '1000', '--json');
      const events = stdout.split('\n').filter((line) => line.includes('session.denied'));
      missing = denied.filter((cell) => {
        const [id = '', backend = ''] = cell.split(' ');
        return !events.some((event) => event.includes(`"${id}"`) && event.includes(`"${backend}"`));
      });
      return missing.length === 0;
    };
    await until(areAudited, 15_000, 'each refusal is audited').catch(() => undefined);
    assert.deepEqual(missing, []);
  }).timeout(90_000);
});
