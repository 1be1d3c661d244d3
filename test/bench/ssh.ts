/**
 * ssh through the gateway, beside a direct connection and OpenSSH's own jump host, in turn: bytes a second
 * of one command's output, and the time of a whole `ssh HOST true`. One cipher and one key exchange for all.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../runtime/clock.ts';
import { startPlainSshd } from '../fixtures/plain-sshd.ts';
import { makeSshWorkload } from '../fixtures/ssh-workload.ts';
import { type RunningUp, runProgram } from '../fixtures/writ-up.ts';
import { median } from './percentile.ts';
import type { BenchOptions } from './row.ts';

const SETTINGS = ['Ciphers aes128-gcm@openssh.com', 'KexAlgorithms curve25519-sha256'];
const ROUNDS = 3;
const LOGINS = 10;
const MEGABYTES_A_SECOND = 50;

interface Way {
  readonly name: string;
  readonly args: readonly string[];
}

export async function benchSsh(
  startedUp: () => Promise<RunningUp>,
  options: BenchOptions,
): Promise<string[]> {
  const up = await startedUp();
  const { ssh_target: target, ssh_config: upConfig = '', ssh_login: login } = up.json.demo;
  if (target === undefined) return ['ssh           skipped: this machine has no sshd'];
  const folder = await mkdtemp(join(tmpdir(), 'writ-bench-ssh-'));
  await using plain = await startPlainSshd(SETTINGS);
  await using _ = await makeSshWorkload(up, 'bench-ssh');
  const config = join(folder, 'ssh_config');
  const settings = ['Host *', ...SETTINGS, 'BatchMode yes'].join('\n');
  await writeFile(config, `${await readFile(upConfig, 'utf8')}\n${settings}\n`);
  const gateway = up.json.gateway.ssh.split(':');
  const single = ['-o', `Port=${gateway[1]}`, `${login}+${target}@writ-gateway_demo`];
  const direct: Way = { name: 'direct', args: ['-F', plain.config, 'direct'] };
  const ways: readonly Way[] = [
    { name: 'OpenSSH -J', args: ['-F', plain.config, 'jumped'] },
    { name: 'gateway by -J', args: ['-F', config, target] },
    { name: 'gateway', args: ['-F', config, ...single] },
  ];
  const bytes = options.seconds * MEGABYTES_A_SECOND * 1_000_000;
  const lines = [
    ...(await compare('ssh output', direct, ways, ROUNDS, (way) => throughput(way, bytes))),
    ...(await compare('ssh login ', direct, ways, LOGINS, setUp)),
  ];
  await rm(folder, { recursive: true, force: true });
  return lines;
}

/** One line for each way: its median ratio to the direct one of the same round. */
async function compare(
  title: string,
  direct: Way,
  ways: readonly Way[],
  rounds: number,
  measure: (way: Way) => Promise<{ readonly value: number; readonly shown: string }>,
): Promise<string[]> {
  const ratios = new Map<string, number[]>();
  const last = new Map<string, string>();
  for (let round = 0; round < rounds; round += 1) {
    const base = await measure(direct);
    last.set(direct.name, base.shown);
    for (const way of ways) {
      const { value, shown } = await measure(way);
      ratios.set(way.name, [...(ratios.get(way.name) ?? []), value / base.value]);
      last.set(way.name, shown);
    }
  }
  return ways.map(({ name }) => {
    const ratio = median(ratios.get(name) ?? []).toFixed(2);
    return `${title}  ${name.padEnd(13)} / direct = ${ratio}  (last ${last.get(name)} / ${last.get(direct.name)})`;
  });
}

async function throughput({ args }: Way, bytes: number) {
  const command = `head -c ${bytes} /dev/zero`;
  const started = systemClock.monotonicMs();
  const counted = ['-c', 'ssh "$@" | wc -c', 'sh', ...args, command];
  const { stdout, stderr } = await runProgram('sh', counted, { timeoutMs: 120_000 });
  if (Number(stdout) !== bytes) throw new Error(`${args.join(' ')}: ${stdout} bytes; ${stderr}`);
  const value = bytes / 1000 / (systemClock.monotonicMs() - started);
  return { value, shown: `${value.toFixed(0)} MB/s` };
}

async function setUp({ args }: Way) {
  const started = systemClock.monotonicMs();
  const { status, stderr } = await runProgram('ssh', [...args, 'true']);
  if (status !== 0) throw new Error(`${args.join(' ')}: ${stderr}`);
  const value = systemClock.monotonicMs() - started;
  return { value, shown: `${value.toFixed(0)} ms` };
}
