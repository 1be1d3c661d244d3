import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdtemp, readlink, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../runtime/clock.ts';
import { createLogger } from '../../runtime/log.ts';
import { holdProcess } from '../../runtime/peer-credentials.ts';
import { descendants, isAlive } from '../../test/fixtures/process-facts.ts';
import { skipWithout } from '../../test/fixtures/programs.ts';
import { unixWorkloadAttestor } from '../plugins/workload-attestor/unix.ts';
import type { WorkloadAttestor } from '../plugins/workload-attestor/workload-attestor.ts';
import { attestLineage } from './attest-lineage.ts';
import type { ProcessFacts, ProcessTable } from './process-table.ts';

const log = createLogger({ process: 'agent', level: 'silent' });
const NOBODY = 65_534;

describe('attestLineage', () => {
  const attestors = [unixWorkloadAttestor({ clock: systemClock })];
  let directory: string;
  let program: string;
  let sleeper: string;
  const started: number[] = [];

  before(async () => {
    directory = await realpath(await mkdtemp(join(tmpdir(), 'writ-lineage-')));
    await chmod(directory, 0o755);
    program = join(directory, 'program');
    await copyFile('/bin/sh', program);
    sleeper = await realpath('/bin/sleep');
  });
  afterEach(() => {
    for (const pid of started.splice(0).flatMap((one) => [one, ...descendants(one)])) kill(pid);
  });
  after(() => rm(directory, { recursive: true }));

  /** The pid that the program prints, once it is that of a sleeper. */
  const start = async (
    file: string,
    args: readonly string[],
    user: object = {},
  ): Promise<number> => {
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'], ...user });
    const [line] = await once(child.stdout, 'data');
    started.push(child.pid ?? 0, Number(line));
    while ((await readlink(`/proc/${Number(line)}/exe`)) !== sleeper) await sleep(5);
    return Number(line);
  };
  /** Lineage of a process that runs already, as if it had connected. */
  const lineageOf = async (pid: number, uid = process.geteuid?.() ?? -1, gid = uid) => {
    const held = holdProcess(pid);
    try {
      return await attestLineage({ pid, uid, gid, alive: held.alive }, { attestors, log });
    } finally {
      held.close();
    }
  };
  const SLEEPER = `sh -c 'echo $$; exec sleep 60'`;
  /** Not its last command, for which a shell would give up its own place. */
  const STAY = `${SLEEPER}; :`;
  const paths = (lineage: readonly ReadonlySet<string>[]) =>
    lineage.map((held) => [...held].find((selector) => selector.startsWith('unix:path:')));

  it('tells of the caller first, then of its parent, and so on', async () => {
    const pid = await start(program, ['-c', STAY]);
    const found = paths(await lineageOf(pid));
    assert.deepEqual(found.slice(0, 3), [
      `unix:path:${sleeper}`,
      `unix:path:${program}`,
      `unix:path:${process.execPath}`,
    ]);
  });

  it('knows no parent that has died', async () => {
    const pid = await start(program, ['-c', `${SLEEPER} & exit`]);
    const [shell = 0] = started;
    for (let n = 0; n < 100 && isAlive(shell); n++) await sleep(20);
    const found = paths(await lineageOf(pid));
    assert.equal(found[0], `unix:path:${sleeper}`);
    assert.ok(!found.includes(`unix:path:${program}`), String(found));
  });

  it('ends before an ancestor of another user', async function () {
    if (process.getuid?.() !== 0) skipWithout(this, 'root, who may run as another user');
    const pid = await start(program, ['-c', STAY], { uid: NOBODY, gid: NOBODY });
    const found = paths(await lineageOf(pid, NOBODY));
    assert.deepEqual(found.slice(1), [`unix:path:${program}`]);
  });

  it('ends before an ancestor of another group', async function () {
    if (process.getuid?.() !== 0) skipWithout(this, 'root, who may run in another group');
    const pid = await start(program, ['-c', STAY], { gid: NOBODY });
    assert.deepEqual(paths(await lineageOf(pid, 0, NOBODY)).slice(1), [`unix:path:${program}`]);
  });

  it('ends before a set-user-ID program that another user has started', async function () {
    if (process.getuid?.() !== 0) skipWithout(this, 'root, whom a set-user-ID program can be of');
    const trusted = join(directory, 'trusted');
    await copyFile('/usr/bin/timeout', trusted);
    await chmod(trusted, 0o4755);
    const run = (shell: string, ...user: object[]) =>
      start(trusted, ['60', program, '-pc', `${shell}; :`], ...user);
    const asRoot = paths(await lineageOf(await run(SLEEPER)));
    assert.deepEqual(asRoot.slice(1, 3), [`unix:path:${program}`, `unix:path:${trusted}`]);
    // With -p a shell keeps its effective user: the sleeper is root's but for its real user.
    const pid = await run(SLEEPER.replace('-c', '-pc'), { uid: NOBODY, gid: 0 });
    const asNobody = paths(await lineageOf(pid, 0, 0));
    assert.deepEqual(asNobody, [`unix:path:${sleeper}`]);
  });

  it('looks at sixteen processes at most', async () => {
    const script = join(directory, 'deep.sh');
    const deeper = '"$2" "$0" $(($1 - 1)) "$2"';
    await writeFile(script, `if [ "$1" = 0 ]; then ${SLEEPER}; else ${deeper}; fi\n:\n`);
    const pid = await start(program, [script, '20', program]);
    const found = paths(await lineageOf(pid));
    assert.equal(found.length, 16);
    assert.equal(found.filter((path) => path === `unix:path:${program}`).length, 15);
  });

  describe('in a table of processes', () => {
    const told: WorkloadAttestor = { type: 'pid', attest: async ({ pid }) => [String(pid)] };
    const caller = { pid: 30, uid: 5, gid: 6, alive: () => true };
    const ids = { uids: [5, 5, 5, 5], gids: [6, 6, 6, 6], isFirst: false };
    /** 30, started by 20, started by 10; a change is made when 20 or 10 is held. */
    const table = (change: (facts: Map<number, ProcessFacts>, pid: number) => void) => {
      const facts = new Map<number, ProcessFacts>([
        [30, { parent: 20, ...ids }],
        [20, { parent: 10, ...ids }],
        [10, { parent: 1, ...ids }],
      ]);
      const open = new Set<object>();
      const processes: ProcessTable = {
        factsOf: async (pid) => facts.get(pid) ?? assert.fail(`no process ${pid}`),
        hold: (pid) => {
          const original = facts.get(pid);
          assert.ok(original, `no process ${pid}`);
          const held = {
            pid,
            alive: () => open.has(held) && facts.has(pid),
            close: () => void open.delete(held),
          };
          open.add(held);
          change(facts, pid);
          return held;
        },
      };
      return { processes, open, facts };
    };
    const run = async (
      change: Parameters<typeof table>[0],
      attestor = told,
      alive = caller.alive,
    ): Promise<string[]> => {
      const { processes, open } = table(change);
      const options = { attestors: [attestor], log, processes };
      const lineage = await attestLineage({ ...caller, alive }, options);
      assert.equal(open.size, 0, 'every process was let go');
      return lineage.flatMap((held) => [...held]);
    };

    it('goes up to the process below the first', async () => {
      assert.deepEqual(await run(() => undefined), ['pid:30', 'pid:20', 'pid:10']);
    });

    it('does not take for a parent who has the pid of one that ended', async () => {
      // 20 ends, 30 falls to 1, and 20 is given to a stranger before it is held.
      const lineage = await run((facts) => facts.set(30, { parent: 1, ...ids }));
      assert.deepEqual(lineage, ['pid:30']);
    });

    it('ends where a parent has gone', async () => {
      const lineage = await run((facts, pid) => pid === 10 && facts.delete(10));
      assert.deepEqual(lineage, ['pid:30', 'pid:20']);
    });

    it('trusts nothing that it read of a child which had gone by then', async () => {
      const lineage = await run((facts) => facts.delete(20), told);
      assert.deepEqual(lineage, ['pid:30']);
      let asked = 0;
      // Alive when it was attested itself, gone when its parent was told.
      const alive = () => ++asked < 2;
      assert.deepEqual(await run(() => undefined, told, alive), ['pid:30']);
    });

    it('believes nothing of a parent that ended while it was attested', async () => {
      const { processes, open, facts } = table(() => undefined);
      const ending: WorkloadAttestor = {
        type: 'pid',
        attest: async ({ pid }) => {
          if (pid === 20) facts.delete(20);
          return [String(pid)];
        },
      };
      const lineage = await attestLineage(caller, { attestors: [ending], log, processes });
      assert.deepEqual(lineage, [new Set(['pid:30'])]);
      assert.equal(open.size, 0);
    });

    it('does not leave a pid namespace by its first process', async () => {
      const lineage = await run((facts) => facts.set(20, { parent: 10, ...ids, isFirst: true }));
      assert.deepEqual(lineage, ['pid:30', 'pid:20']);
    });

    for (const [at, which] of ['real', 'effective', 'saved', 'file system'].entries()) {
      for (const kind of ['uids', 'gids'] as const) {
        it(`ends before one whose ${which} of ${kind} is another`, async () => {
          const other = ids[kind].map((id, n) => (n === at ? 0 : id));
          const lineage = await run((facts) =>
            facts.set(20, { parent: 10, ...ids, [kind]: other }),
          );
          assert.deepEqual(lineage, ['pid:30']);
        });
      }
    }

    it('ends before one of which nothing is known, or that an attestor denies', async () => {
      const broken = await run((facts) => facts.set(20, { parent: 10, ...ids, uids: [] }));
      assert.deepEqual(broken, ['pid:30']);
      const denying: WorkloadAttestor = {
        type: 'pid',
        attest: async ({ pid }) => {
          if (pid !== 30) throw new Error('no');
          return [String(pid)];
        },
      };
      assert.deepEqual(await run(() => undefined, denying), ['pid:30']);
    });

    it('fails with the caller itself', async () => {
      const { processes } = table(() => undefined);
      const gone = { ...caller, alive: () => false };
      const attested = attestLineage(gone, { attestors: [told], log, processes });
      await assert.rejects(attested, { code: 'ATTESTATION_DENIED' });
    });
  });
});

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has gone.
  }
}
