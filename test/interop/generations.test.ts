/** What clients meet when SVIDs are renewed. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { SessionService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { hasProgram, skipWithout } from '../fixtures/programs.ts';
import { readingWorkload, type Workload } from '../fixtures/workload.ts';
import { type RunningUp, runProgram, startUp } from '../fixtures/writ-up.ts';
import { goProgram } from './client-programs.ts';

const QUERY = 'select count(*) from orders';

describe('clients and the end of an SVID', () => {
  let up: RunningUp;

  before(async function () {
    this.timeout(90_000);
    // Short enough for a renewal in the test, long enough for a slow machine.
    up = await startUp({ args: ['--no-sample', '--ttl', '30s'] });
  });
  after(async function () {
    this.timeout(30_000);
    await up[Symbol.asyncDispose]();
  });

  it('G3 pools that use two SVIDs see no error while both are valid; the old session ends with the old one', async function () {
    this.timeout(400_000);
    if (!hasProgram('go')) skipWithout(this, 'Go');
    const program = await goProgram('generations');
    await using workload = await readingWorkload(up, 'generations');
    const [host, port] = up.json.gateway.postgres.split(':');
    const dsn = `host=${host} port=${port} user=app dbname=${up.json.demo.backend} sslmode=require`;
    const [byNode, byGo] = await Promise.all([
      useTwoGenerations(workload),
      runProgram(program, [up.json.agent.workload_api, workload.spiffeId, dsn], {
        timeoutMs: 120_000,
      }),
    ]);
    assert.equal(byGo.status, 0, byGo.stderr);
    const go = JSON.parse(byGo.stdout);
    assert.deepEqual([go.errors, go.renewed], [[], true]);
    assert.ok(go.queries > 0);
    assert.notEqual(go.ended, '');
    assert.ok(go.ended_at_ms >= go.not_after_ms);

    assert.equal(byNode.ended, '57P01');
    assert.ok(byNode.endedAt >= byNode.notAfter, 'the old session has lasted to its end');
    const { sessions } = await up
      .admin(SessionService)
      .listSessions({ limit: 1000 }, { signal: AbortSignal.timeout(10_000) });
    const recorded = sessions.find(({ svidSerial }) => svidSerial === byNode.serial);
    assert.equal(Number(recorded?.expiresAt?.seconds), byNode.notAfter.getTime() / 1000);
    await assert.rejects(connectWith(byNode.config), 'the certificate of an SVID that has ended');
  });
});

/** One connection of the first SVID, and a pool that opens its connections with the SVID of the moment. */
async function useTwoGenerations(workload: Workload) {
  const { serial, notAfter } = workload.source.svid.value;
  const config = workload.config();
  const old = await connectWith(config);
  let closing: (Error & { code?: string }) | undefined;
  old.on('error', (error) => {
    closing ??= error;
  });
  class SvidClient extends pg.Client {
    constructor() {
      super(workload.config());
    }
  }
  const pool = new pg.Pool({ max: 3, maxLifetimeSeconds: 3, Client: SvidClient });
  pool.on('error', () => undefined);
  for (;;) {
    const ended = await old.query(QUERY).then(
      () => undefined,
      (error: Error & { code?: string }) => closing ?? error,
    );
    if (ended !== undefined) {
      const endedAt = new Date();
      await pool.query(QUERY);
      await pool.end();
      assert.notEqual(workload.source.svid.value.serial, serial);
      return { ended: ended.code, endedAt, serial, notAfter, config };
    }
    await Promise.all([pool.query(QUERY), pool.query(QUERY)]);
    await sleep(50);
  }
}

async function connectWith(config: pg.ClientConfig): Promise<pg.Client> {
  const client = new pg.Client(config);
  client.on('error', () => undefined);
  await client.connect();
  return client;
}
