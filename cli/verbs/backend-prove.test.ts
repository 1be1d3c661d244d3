import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { ResourceSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { requirePostgres, startPostgres, type TestPostgres } from '../../test/fixtures/postgres.ts';
import {
  SHOP,
  SHOP_READER,
  SHOP_SQL,
  setUpShop,
  shopBackend,
  shopClasses,
  shopColumns,
} from '../../test/fixtures/shop-database.ts';
import { ExitStatus, type VerbIo } from '../verb.ts';
import { backendProve } from './backend-prove.ts';

describe('writ backend prove --every', function () {
  this.timeout(60_000);
  let server: TestPostgres;
  const url = process.env.DATABASE_URL;
  before(async function () {
    requirePostgres(this, 15);
    server = await startPostgres({ version: 15 });
    await server.exec(SHOP_SQL);
    await setUpShop(server, [SHOP_READER]);
    process.env.DATABASE_URL = server.superuserUrl;
  });
  after(async () => {
    if (url === undefined) delete process.env.DATABASE_URL;
    else process.env.DATABASE_URL = url;
    await server?.[Symbol.asyncDispose]();
  });

  /** Runs until so many reports are signed. @returns the leaks that each one tells */
  async function proves(reports: number): Promise<{ leaks: number[]; run: Promise<void> }> {
    const stop = new AbortController();
    const leaks: number[] = [];
    const resources = [
      body({ case: 'backend', value: shopBackend(server) }),
      body({ case: 'grant', value: SHOP_READER }),
      ...shopClasses.map((value) => body({ case: 'columnClass', value })),
      ...shopColumns.map((value) => body({ case: 'columns', value })),
    ];
    const admin = {
      listResources: async () => ({ resources }),
      signProof: async (proof: { leaks: number }) => {
        leaks.push(proof.leaks);
        if (leaks.length === reports) stop.abort();
        return { statement: '{}', signature: new Uint8Array() };
      },
    };
    const io = {
      signal: stop.signal,
      admin: () => admin,
      out: () => undefined,
      err: () => undefined,
    } as unknown as VerbIo;
    const run = backendProve.run({ every: '1s' }, io, [SHOP]);
    await run.catch(() => undefined);
    return { leaks, run };
  }

  it('signs a report for each round, until it is interrupted', async () => {
    const { leaks, run } = await proves(2);
    await run;
    assert.deepEqual(leaks, [0, 0]);
  });

  it('ends with status 1 if any round found a leak', async () => {
    await server.exec('grant select (ssn) on public.customers to public');
    const { leaks, run } = await proves(1);
    assert.ok((leaks[0] ?? 0) > 0);
    await assert.rejects(run, (error) => error instanceof ExitStatus && error.status === 1);
  });
});

function body(value: NonNullable<MessageInitShape<typeof ResourceSchema>['body']>) {
  return create(ResourceSchema, { body: value });
}
