import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, mkdtemp, readFile, realpath, rename, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../../runtime/clock.ts';
import { Executables } from './unix-executable.ts';

const SLEEP = '/bin/sleep';

describe('Executables', () => {
  let directory: string;
  const children: ChildProcess[] = [];

  before(async () => {
    directory = await realpath(await mkdtemp(join(tmpdir(), 'writ-exe-')));
  });
  after(async () => {
    for (const child of children) child.kill('SIGKILL');
    await rm(directory, { recursive: true });
  });

  const run = async (program: string): Promise<number> => {
    const child = spawn(program, ['60']);
    children.push(child);
    await once(child, 'spawn');
    assert.ok(child.pid);
    return child.pid;
  };
  const sha256 = async (path: string) =>
    createHash('sha256')
      .update(await readFile(path))
      .digest('hex');

  it('tells the path and the hash of a running program', async () => {
    const pid = await run(SLEEP);
    const path = await realpath(SLEEP);
    assert.deepEqual(await new Executables(systemClock).of(pid, { hash: true }), {
      path,
      sha256: await sha256(path),
    });
  });

  it('keeps the path to itself when another file has taken it', async () => {
    const program = join(directory, 'trusted');
    await copyFile(SLEEP, program);
    const pid = await run(program);
    const ran = await sha256(program);
    const other = join(directory, 'other');
    await copyFile('/bin/cat', other);
    await rename(other, program);
    assert.deepEqual(await new Executables(systemClock).of(pid, { hash: true }), {
      path: undefined,
      sha256: ran,
    });
  });

  it('hashes anew a file whose content has changed behind a modification time set back', async () => {
    const program = join(directory, 'changing');
    await copyFile(SLEEP, program);
    await utimes(program, new Date(1000), new Date(1000));
    const later = { ...systemClock, now: () => new Date(Date.now() + 60_000) };
    const executables = new Executables(later);
    const first = await run(program);
    const before = await executables.of(first, { hash: true });
    process.kill(first, 'SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 50));
    await copyFile('/bin/cat', program);
    await utimes(program, new Date(1000), new Date(1000));
    const child = spawn(program);
    children.push(child);
    await once(child, 'spawn');
    const after = await executables.of(child.pid ?? 0, { hash: true });
    assert.notEqual(before.sha256, after.sha256);
    assert.equal(after.sha256, await sha256('/bin/cat'));
  });

  it('knows nothing of a process that has gone', async () => {
    const child = spawn('/bin/true');
    await once(child, 'exit');
    const nothing = { path: undefined, sha256: undefined };
    assert.deepEqual(
      await new Executables(systemClock).of(child.pid ?? 0, { hash: true }),
      nothing,
    );
  });
});
