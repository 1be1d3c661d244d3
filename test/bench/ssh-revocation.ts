/** From the command that ends a session to the end of its ssh client: shells, commands and transfers in turn. */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LockService, SessionService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { descendants } from '../fixtures/process-facts.ts';
import {
  endOf,
  makeSshWorkload,
  SSH_ACTIVITIES,
  type SshWorkload,
  until,
} from '../fixtures/ssh-workload.ts';
import { type RunningUp, runProgram } from '../fixtures/writ-up.ts';
import { percentile, show } from './percentile.ts';
import type { BenchOptions } from './row.ts';

const PROMISED_MS = 1000;
/** Of a grant that ends by itself: time for its session to begin. */
const GRANT_MS = 3500;
const never = new AbortController().signal;

type End = 'kill' | 'lock' | 'expiry';
const ENDS: readonly End[] = ['kill', 'lock', 'expiry'];

export async function benchSshRevocation(
  startedUp: () => Promise<RunningUp>,
  options: BenchOptions,
): Promise<string[]> {
  const up = await startedUp();
  const target = up.json.demo.ssh_target;
  if (target === undefined) return ['ssh revocation  skipped: this machine has no sshd'];
  const folder = await mkdtemp(join(tmpdir(), 'writ-bench-ssh-'));
  await chmod(folder, 0o777);
  await runProgram('truncate', ['-s', '50G', join(folder, 'sparse')]);
  const activities = Object.values(SSH_ACTIVITIES);
  const took: Record<End, number[]> = { kill: [], lock: [], expiry: [] };
  for (let run = 0; run < options.revocations; run += 1) {
    const end = ENDS[run % ENDS.length] ?? 'kill';
    const start = activities[Math.floor(run / ENDS.length) % activities.length];
    if (start === undefined) continue;
    const one = await endOne(up, { name: `revoked-${run}`, end }, (workload) =>
      start(workload, { target, folder }),
    );
    took[end].push(one);
  }
  await rm(folder, { recursive: true, force: true });
  const all = Object.values(took).flat();
  const p99 = percentile(all, 0.99);
  const isKept = p99 <= PROMISED_MS;
  if (!isKept) process.exitCode = 1;
  const each = ENDS.map((end) => `${end} p50 ${show(took[end], 0.5)}`).join(', ');
  return [
    `ssh session to its client's end, ${all.length} runs (${each}), promise p99 <= ${PROMISED_MS} ms: ${isKept ? 'kept' : 'BROKEN'}, p99 ${p99.toFixed(0)} ms`,
  ];
}

async function endOne(
  up: RunningUp,
  { name, end }: { readonly name: string; readonly end: End },
  start: (workload: SshWorkload) => ReturnType<SshWorkload['start']>,
): Promise<number> {
  const expiresAt = new Date(Date.now() + GRANT_MS);
  await using workload = await makeSshWorkload(up, name, end === 'expiry' ? { expiresAt } : {});
  const ended = endOf(start(workload));
  const { id: sessionId } = await workload.session();
  await until('the target works for it', async () => hasWork(up) || undefined);
  await systemClock.wait(100, never);
  const began = end === 'expiry' ? expiresAt.getTime() : Date.now();
  const reason = 'bench';
  if (end === 'kill') {
    await up.admin(SessionService).killSession({ sessionId, reason }, { signal: never });
  }
  if (end === 'lock') {
    const target = { target: { case: 'spiffeId', value: workload.spiffeId } } as const;
    await up.admin(LockService).createLock({ target, reason }, { signal: never });
  }
  await ended;
  await until('the target is empty', async () => !hasWork(up) || undefined);
  return Date.now() - began;
}

/** Beside the connection's own process there is one that does what the client asked for. */
function hasWork(up: RunningUp): boolean {
  return descendants(up.json.pids.sshd ?? 0).length > 0;
}
