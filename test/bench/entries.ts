/**
 * A registry of 100,000 entries on each store: how fast it is filled, how soon and how large a server
 * stands on it, and how long its work keeps other work waiting. SPIRE's figures, where there are any,
 * are facts of SPIRE 1.15.3 on a machine of this kind (2 cores, SQLite); the others are our aims.
 */
import { join } from 'node:path';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { hasProgram } from '../fixtures/programs.ts';
import { CALL, RunningServer } from '../fixtures/running-server.ts';
import { BENCH_STORES, type BenchStore } from './bench-stores.ts';
import { longestBlockMs } from './loop-watch.ts';
import {
  buildLoad,
  load,
  type OwnServer,
  ownFolder,
  residentMb,
  startOwnServer,
} from './own-processes.ts';
import { show } from './percentile.ts';
import { createdToPushed } from './pushed.ts';

const BATCH = 1000;
const ALL = 100_000;
const SYNCED = 10_000;
const PUSHED = { changesASecond: 100, seconds: 10 };
const AIM_BLOCK = 'aim at most 50';

interface Bench {
  readonly program: string;
  readonly store: BenchStore;
  readonly stateDir: string;
}

export async function benchEntries(): Promise<string[]> {
  if (!hasProgram('go')) return ['entries       skipped: this machine has no Go'];
  await using folder = await ownFolder();
  const program = await buildLoad(folder.path);
  const lines: string[] = [];
  for (const open of BENCH_STORES) {
    await using store = await open(folder.path);
    if (store === undefined) continue;
    const bench = { program, store, stateDir: join(folder.path, store.name) };
    lines.push(...(await filled(bench)), ...(await stoodOn(bench)));
  }
  return lines;
}

/** Fills an empty store. */
async function filled({ program, store, stateDir }: Bench): Promise<string[]> {
  await using server = await startOwnServer({ stateDir, config: store.config });
  const title = (text: string) => `${store.name}: ${text}`.padEnd(46);
  const create = (count: number) =>
    load(program, server.pid, 'create', { ...at(server), size: BATCH, count });
  await create(1);
  const first = await create(5);
  let rest = first;
  const blockMs = await longestBlockMs(server.health, async () => {
    rest = await create(ALL / BATCH - 6);
  });
  const rate = ({ operations, seconds, cpuSeconds }: typeof first) =>
    `${round(operations / seconds)} a second, ${round(operations / cpuSeconds)} per CPU second`;
  return [
    `${title('BatchCreateEntry of 1,000, 5 calls')} ${rate(first)}  (aim 10000, SPIRE 530-940; 650-835 per CPU second)`,
    `${title('the same up to 100,000 entries')} ${rate(rest)}  (longest block ${round(blockMs)} ms, ${AIM_BLOCK})`,
  ];
}

/** Starts again on what is there. */
async function stoodOn({ program, store, stateDir }: Bench): Promise<string[]> {
  await using server = await startOwnServer({ stateDir, config: store.config });
  const title = (text: string) => `${store.name}: ${text}`.padEnd(46);
  const startMb = residentMb(server.pid);
  const sync = () => load(program, server.pid, 'sync', { ...at(server), size: SYNCED, count: 10 });
  const synced = await sync();
  await using client = RunningServer.at({
    ...{ address: server.address, adminSocket: server.adminSocket, health: server.health },
  });
  let pushed: readonly number[] = [];
  const pushedBlockMs = await longestBlockMs(server.health, async () => {
    pushed = await createdToPushed({ server: client, ...PUSHED });
  });
  const mixedBlockMs = await longestBlockMs(server.health, () => mixed(program, server, client));
  return [
    `${title('start to ready, 100,000 entries')} ${round(server.readyMs)} ms  (aim 3000)`,
    `${title('memory then')} ${round(startMb)} MB, ${round(residentMb(server.pid))} MB after what follows  (aim 400, SPIRE 412)`,
    `${title('sync of 10,000 entries')} p50 ${synced.p50Ms} ms, p99 ${synced.p99Ms} ms  (aim 100, SPIRE 50)`,
    `${title('created to pushed, 100 a second')} p50 ${show(pushed, 0.5)}, p99 ${show(pushed, 0.99)}  (aim p99 1000, SPIRE p50 4700)`,
    `${title('longest block while pushing')} ${round(pushedBlockMs)} ms  (${AIM_BLOCK})`,
    `${title('longest block, all at once')} ${round(mixedBlockMs)} ms  (${AIM_BLOCK}; batches made and deleted, lists, syncs)`,
  ];
}

/** Whatever takes long, all of it together. */
async function mixed(program: string, server: OwnServer, client: RunningServer): Promise<void> {
  const run = (mode: string, flags: object) =>
    load(program, server.pid, mode, { ...at(server), ...flags });
  await Promise.all([
    run('create', { size: BATCH, count: 10 }),
    run('list', { count: 3 }),
    run('sync', { size: SYNCED, count: 10, callers: 2 }),
  ]);
  const entries = client.admin(Entry);
  const page = await entries.listEntries({ pageSize: 5 * BATCH }, CALL);
  const ids = page.entries.map(({ id }) => id);
  for (let start = 0; start < ids.length; start += BATCH)
    await entries.batchDeleteEntry({ ids: ids.slice(start, start + BATCH) }, CALL);
}

function at({ address, adminSocket }: OwnServer) {
  return { addr: address, admin: adminSocket };
}

function round(value: number): string {
  return value.toFixed(0);
}
