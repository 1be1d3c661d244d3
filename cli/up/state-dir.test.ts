import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStateDir } from './state-dir.ts';

describe('openStateDir', () => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'writ-state-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('makes private folders, and knows them again', async () => {
    const path = join(folder, 'state');
    {
      await using state = await openStateDir(path);
      assert.equal(state.fresh, true);
      for (const name of ['server', 'agent', 'gateway']) {
        assert.equal((await stat(state.in(name))).mode & 0o777, 0o700);
      }
    }
    await using again = await openStateDir(path);
    assert.equal(again.fresh, false);
  });

  it('is held by one process', async () => {
    await using first = await openStateDir(join(folder, 'state'));
    await assert.rejects(openStateDir(first.path), {
      code: 'STATE_UNUSABLE',
      message: new RegExp(`in use by process ${process.pid}`),
    });
  });

  it('takes over from a process that is gone, also if its pid lives again', async () => {
    const path = join(folder, 'state');
    await (await openStateDir(path))[Symbol.asyncDispose]();
    await writeFile(join(path, 'lock'), `${process.pid} 1\n`);
    await using state = await openStateDir(path);
    assert.notEqual(await readFile(join(state.path, 'lock'), 'utf8'), `${process.pid} 1\n`);
  });

  it('refuses a path in which a socket would not fit', async () => {
    await assert.rejects(openStateDir(`/tmp/${'x'.repeat(90)}`), { code: 'STATE_UNUSABLE' });
  });
});
