/** `writ up` from its first line to its last: starts the parts in order, shows the sample, waits, stops. */
import { rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { bundleToPem } from '../../identity/bundle.ts';
import { writeAtomic } from '../../runtime/atomic-file.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Closers } from '../../runtime/closers.ts';
import { Fault } from '../../runtime/fault.ts';
import { AdminConnection } from '../admin-connection.ts';
import type { VerbIo } from '../verb.ts';
import { declareDatabase, declareTarget } from './declare-demo.ts';
import {
  ensureSampleEntry,
  joinAgent,
  registerGateway,
  rejoinExpiredAgent,
} from './demo-access.ts';
import { type DemoDatabase, startDemoDatabase } from './demo-database.ts';
import { keepBackendSetUp } from './demo-dba.ts';
import { sampleIdentity } from './demo-resources.ts';
import { sshConfigFile, writeDemoSshConfig } from './demo-ssh-config.ts';
import { type DemoSshd, type DemoTarget, findDemoTarget, startDemoSshd } from './demo-sshd.ts';
import { printInstructions } from './instructions.ts';
import { GATEWAY_HOST, type Plan } from './plan.ts';
import { checkPorts } from './ports.ts';
import { startAgent, startGateway, startServer } from './processes.ts';
import { type Attested, runSample, type SampleOptions } from './sample.ts';
import { openStateDir, type StateDir } from './state-dir.ts';
import type { Supervised } from './supervised.ts';
import { systemUser } from './system-user.ts';
import { type Running, writeUpJson } from './up-json.ts';

interface Start {
  readonly plan: Plan;
  readonly state: StateDir;
  readonly io: VerbIo;
  /** Stops what was started, in reverse order. */
  readonly closers: Closers;
}

/** Resolves after everything that it started has ended. */
export async function runUp(plan: Plan, stateDir: string, given: VerbIo): Promise<void> {
  const started = systemClock.monotonicMs();
  await using closers = new Closers();
  const state = await openStateDir(resolve(stateDir));
  closers.defer(async () => await state[Symbol.asyncDispose]());
  await checkPorts(plan.ports);
  const admin = new AdminConnection(state.in('server', 'admin.sock'));
  closers.defer(() => admin[Symbol.asyncDispose]());
  const io: VerbIo = { ...given, admin: (service) => admin.client(service) };
  try {
    await rm(state.in('up.json'), { force: true });
    const running = await startParts({ plan, state, io, closers });
    const seconds = ((systemClock.monotonicMs() - started) / 1000).toFixed(1);
    io.out(`ready after ${seconds} s\n`);
    await stay(running, { plan, state, io });
  } catch (error) {
    // Ctrl-C is the ordinary end, whatever it interrupts.
    if (!io.signal.aborted) throw error;
  } finally {
    await rm(state.in('up.json'), { force: true });
    if (io.signal.aborted) io.err('stopping ...');
  }
}

/** What does not need each other starts at the same time: the first minute counts. */
async function startParts({ plan, state, io, closers }: Start): Promise<UpParts> {
  const say = (line: string) => io.err(line);
  let running: UpParts | undefined;
  const started = async () => {
    if (running !== undefined) await writeUpJson(plan, state, running);
  };
  const parts = { plan, state, io, say, started };
  const held = <P extends Part>(part: P): P => {
    stopInTurn(part, closers);
    return part;
  };
  const [database, target, server] = await allOrFirstFault([
    startDatabase(plan, state, io).then(held),
    findDemoTarget(say),
    startServer(parts).then(held),
  ]);
  const join = await joinAgent(plan, state, io);
  const began = systemClock.monotonicMs();
  let attestedMs = 0;
  const [agent, password, sshd, gateway] = await allOrFirstFault([
    startAgent({ ...parts, prepare: () => rejoinExpiredAgent(plan, state, io) }).then((agent) => {
      attestedMs = Math.round(systemClock.monotonicMs() - began);
      return held(agent);
    }),
    declareDatabase({ plan, state, database, io }),
    startTarget(target, parts).then((sshd) => sshd && held(sshd)),
    registerGateway(plan, state, io)
      .then((program) => startGateway({ ...parts, program }))
      .then(held),
  ]);
  const bundle = bundleToPem(await join.bundle());
  await writeAtomic(state.in('bundle.pem'), Buffer.from(bundle), 0o644);
  const node = {
    agentId: await join.agentId(),
    joined: join.anew,
    milliseconds: attestedMs,
  };
  if (sshd !== undefined) await writeDemoSshConfig(plan, state, io);
  running = { database, sshd, server, agent, gateway, agentId: join.agentId, node, password };
  await writeUpJson(plan, state, running);
  return running;
}

async function startDatabase(plan: Plan, state: StateDir, io: VerbIo): Promise<DemoDatabase> {
  const say = (line: string) => io.err(line);
  const user = await systemUser({
    name: 'writ-demo-db',
    shell: '/usr/sbin/nologin',
    why: 'Postgres refuses to run as root',
    say,
  });
  const { signal } = io;
  return await startDemoDatabase({ state, port: plan.ports.postgres, user, signal, say });
}

/** The SSH target, where there is an sshd to make one of. */
async function startTarget(
  target: DemoTarget | undefined,
  { plan, state, io }: Omit<Start, 'closers'>,
): Promise<DemoSshd | undefined> {
  if (target === undefined) return undefined;
  await declareTarget(plan, target.account, io);
  return await startDemoSshd({ target, state, port: plan.ports.sshd, io });
}

/** Like Promise.all, but waits for all before it rejects, so that what did start can be stopped. */
async function allOrFirstFault<T extends readonly unknown[] | []>(
  work: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(work);
  return await Promise.all(work);
}

interface Part {
  stop(): Promise<void>;
  kill(): void;
}

interface UpParts extends Running {
  readonly database: DemoDatabase;
  readonly sshd: DemoSshd | undefined;
  readonly server: Supervised;
  readonly agent: Supervised;
  readonly gateway: Supervised;
  readonly node: Attested;
  /** Of the gateway's login on the demo's database. */
  readonly password: string;
}

/** Shows the sample, then stays until Ctrl-C or until a part is lost for good. */
async function stay(running: UpParts, { plan, state, io }: Omit<Start, 'closers'>): Promise<void> {
  const { database, sshd, server, agent, gateway, node, password } = running;
  await using closers = new Closers();
  const setUps = new AbortController();
  const stopSetUps = () => setUps.abort();
  io.signal.addEventListener('abort', stopSetUps, { once: true });
  const background = keepBackendSetUp(database, password, { ...io, signal: setUps.signal });
  closers.defer(async () => {
    io.signal.removeEventListener('abort', stopSetUps);
    stopSetUps();
    await background;
  });
  if (plan.sample) {
    await ensureSampleEntry(plan, io);
    await shown(
      {
        node,
        workloadApi: `unix://${state.in('run', 'agent.sock')}`,
        spiffeId: sampleIdentity(plan),
        gateway: { host: GATEWAY_HOST, port: plan.ports.gatewayPostgres },
        sshConfig: sshd && sshConfigFile(state),
        io,
      },
      io,
    );
  }
  printInstructions({ plan, state, hasSsh: sshd !== undefined, io });
  const servers = [database, ...(sshd === undefined ? [] : [sshd])].map(async (part) => {
    await part.gone;
    if (!io.signal.aborted) throw part.epitaph();
  });
  const lost = [server, agent, gateway].map((process) => process.lost);
  await Promise.race([aborted(io.signal), ...servers, ...lost]);
}

/** A sample that fails is told, and ends nothing: others may be using what runs. */
async function shown(sample: SampleOptions, io: VerbIo): Promise<void> {
  try {
    await runSample(sample);
  } catch (error) {
    io.signal.throwIfAborted();
    io.err(`the sample failed: ${Fault.from(error).message}`);
  }
}

/** A second Ctrl-C, at least 300 ms after the first, kills what has not stopped yet. */
function stopInTurn(part: Part, closers: Closers): void {
  let first: number | undefined;
  const onSignal = () => {
    const now = systemClock.monotonicMs();
    first ??= now;
    if (now - first > 300) part.kill();
  };
  process.on('SIGINT', onSignal);
  closers.defer(async () => {
    await part.stop();
    process.off('SIGINT', onSignal);
  });
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done();
    signal.addEventListener('abort', () => done(), { once: true });
  });
}
