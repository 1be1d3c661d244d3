/**
 * The identity server under load: operations per second of its CPU time, as facts of SPIRE 1.15.3 were
 * measured on a machine of this kind (2 cores, SQLite, rate limits off), whose figure stands beside each.
 * Issuing is measured beside a small Go server in the same run: the ratio is the one to compare.
 */
import { join } from 'node:path';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { JoinTokenService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { RpcChannel } from '../../runtime/grpc-client.ts';
import { hasProgram } from '../fixtures/programs.ts';
import {
  buildLoad,
  load,
  type Measured,
  type OwnServer,
  ownFolder,
  residentMb,
  startOwnAgent,
  startOwnServer,
  startPeer,
} from './own-processes.ts';
import { median } from './percentile.ts';
import type { BenchOptions } from './row.ts';

const ROUNDS = 3;
const BATCH = { callers: 4, size: 50 };
const signal = new AbortController().signal;

export async function benchIdentity(_up: unknown, { seconds }: BenchOptions): Promise<string[]> {
  if (!hasProgram('go')) return ['identity      skipped: this machine has no Go'];
  await using folder = await ownFolder();
  const program = await buildLoad(folder.path);
  await using server = await startOwnServer({ stateDir: join(folder.path, 'server') });
  const at = { addr: server.address, admin: server.adminSocket };
  const lines = [`server start to ready ${server.readyMs.toFixed(0)} ms, SPIRE 100 ms at best`];
  lines.push(...(await besidePeer(program, server, seconds)));
  const stretch = (mode: string, flags: Readonly<Record<string, string | number>>) =>
    load(program, server.pid, mode, { ...at, seconds, ...flags });
  const rows: readonly [title: string, spire: string, run: () => Promise<Measured>][] = [
    ['MintX509SVID, socket', '1350-1580', () => stretch('mint-x509', { callers: 8 })],
    ['MintX509SVID, mTLS', '660-840', () => stretch('mint-x509-tls', { callers: 8 })],
    ['MintJWTSVID', '2220-3030', () => stretch('mint-jwt', { callers: 8 })],
    ['NewJWTSVID', '1230-1500', () => stretch('new-jwt', { callers: 8 })],
    ['token + AttestAgent', '211-226', () => stretch('attest', { callers: 4, count: 400 })],
    ['mTLS + GetAuthorizedEntries', '442-495', () => stretch('connect-sync', { callers: 8 })],
    ['BatchCreateEntry of 1000', '650-835', () => stretch('create', { size: 1000, count: 10 })],
    ['ListEntries', '39000 a second', () => stretch('list', { count: 3 })],
  ];
  for (const [title, spire, run] of rows) lines.push(shown(title, spire, await run()));
  lines.push(`memory ${residentMb(server.pid).toFixed(0)} MB with 10,000 entries, SPIRE 195 MB`);
  lines.push(...(await workloads(program, server, folder.path, seconds)));
  return lines;
}

async function besidePeer(program: string, server: OwnServer, seconds: number): Promise<string[]> {
  await using peer = await startPeer(program);
  const ours = { addr: server.address, admin: server.adminSocket, seconds, ...BATCH };
  const ratios: number[] = [];
  let last: Measured | undefined;
  for (let round = 0; round < ROUNDS; round += 1) {
    const theirs = await load(program, peer.pid, 'batch-x509', {
      ...{ addr: peer.address, seconds, ...BATCH },
    });
    last = await load(program, server.pid, 'batch-x509', ours);
    ratios.push(cpuEach(last) / cpuEach(theirs));
  }
  if (last === undefined) return [];
  return [
    shown('BatchNewX509SVID of 50, mTLS', '1860-1950', last),
    `BatchNewX509SVID: CPU per SVID / small Go server = ${median(ratios).toFixed(2)}  (aim: at most 1.25)`,
  ];
}

async function workloads(
  program: string,
  server: OwnServer,
  folder: string,
  seconds: number,
): Promise<string[]> {
  await using admin = RpcChannel.unix(server.adminSocket);
  const token = await admin.client(JoinTokenService).createJoinToken({}, { signal });
  await using agent = await startOwnAgent({
    stateDir: join(folder, 'agent'),
    server: server.address,
    joinString: token.joinString,
  });
  const { results } = await admin.client(Entry).batchCreateEntry(
    {
      entries: [
        {
          spiffeId: { trustDomain: 'example.org', path: '/bench/workload' },
          parentId: { trustDomain: 'example.org', path: `/spire/agent/join_token/${token.handle}` },
          selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }],
        },
      ],
    },
    { signal },
  );
  if (results[0]?.status?.code !== 0) throw new Error(results[0]?.status?.message);
  const stretch = (mode: string, callers: number) =>
    load(program, agent.pid, mode, { workload: agent.workloadApi, seconds, callers });
  return [
    `agent start to ready ${agent.readyMs.toFixed(0)} ms, SPIRE 100 ms at best`,
    shown('FetchX509SVID, 1 caller', '1460', await stretch('fetch-x509', 1)),
    shown('FetchX509SVID, 100 callers', '1850', await stretch('fetch-x509', 100)),
    shown('FetchJWTSVID, cached', '2075', await stretch('fetch-jwt', 8)),
    shown('FetchJWTSVID, new audience', '1490', await stretch('fetch-jwt-new', 8)),
    `agent memory ${residentMb(agent.pid).toFixed(0)} MB, SPIRE 60 MB`,
  ];
}

function cpuEach({ cpuSeconds, operations }: Measured): number {
  return cpuSeconds / operations;
}

function shown(
  title: string,
  spire: string,
  { operations, cpuSeconds, ...rest }: Measured,
): string {
  const perCpu = Math.round(operations / cpuSeconds);
  const wall = Math.round(operations / rest.seconds);
  return `${title.padEnd(30)} ${perCpu} per CPU second, SPIRE ${spire}  (${wall}/s, p50 ${rest.p50Ms} ms, p99 ${rest.p99Ms} ms)`;
}
