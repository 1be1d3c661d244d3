import assert from 'node:assert/strict';
import { mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeDirectory } from './make-directory.ts';

describe('makeDirectory', () => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'writ-directory-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('makes what is missing, each with the mode, and leaves what is there', async () => {
    const path = join(folder, 'a/b/c');
    await makeDirectory(path, 0o700);
    await makeDirectory(path, 0o755);
    for (const made of [path, join(folder, 'a/b'), join(folder, 'a')]) {
      assert.equal((await stat(made)).mode & 0o777, 0o700, made);
    }
  });

  it('takes a link to a directory for one', async () => {
    await symlink(folder, join(folder, 'link'));
    await makeDirectory(join(folder, 'link'), 0o700);
    await makeDirectory(join(folder, 'link/below'), 0o700);
    assert.ok((await stat(join(folder, 'below'))).isDirectory());
  });

  it('fails on and below what is no directory', async () => {
    await writeFile(join(folder, 'file'), '');
    await assert.rejects(makeDirectory(join(folder, 'file'), 0o700), { code: 'EEXIST' });
    await assert.rejects(makeDirectory(join(folder, 'file/a'), 0o700), { code: 'ENOTDIR' });
  });

  it('fails where a file system says that there is no such place, and does not turn for ever', async () => {
    await assert.rejects(makeDirectory('/proc/writ/state', 0o700), { code: 'ENOENT' });
  });
});
