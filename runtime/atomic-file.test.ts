import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeAtomic } from './atomic-file.ts';

describe('writeAtomic', () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'writ-atomic-'));
  });

  afterEach(async () => rm(directory, { recursive: true }));

  it('replaces a file whole, with the mode it is told', async () => {
    const path = join(directory, 'f');
    await writeFile(path, 'old', { mode: 0o644 });
    await writeAtomic(path, Buffer.from('new'), 0o600);
    assert.equal(await readFile(path, 'utf8'), 'new');
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    await writeAtomic(path, Buffer.from('newer'), 0o666);
    assert.equal((await stat(path)).mode & 0o777, 0o666, 'whatever the umask');
    assert.deepEqual(await readdir(directory), ['f']);
  });

  it('leaves the old file and no other when it fails', async () => {
    const path = join(directory, 'taken');
    await assert.rejects(writeAtomic(join(directory, 'no/such'), Buffer.from('x'), 0o600));
    await writeAtomic(join(directory, 'f'), Buffer.from('old'), 0o600);
    const { mkdir } = await import('node:fs/promises');
    await mkdir(path);
    await assert.rejects(writeAtomic(path, Buffer.from('x'), 0o600));
    assert.deepEqual((await readdir(directory)).sort(), ['f', 'taken']);
  });

  it('lets a reader see the old or the new bytes, never a part', async () => {
    const path = join(directory, 'f');
    const [a, b] = [Buffer.alloc(200_000, 'a'), Buffer.alloc(200_000, 'b')];
    await writeAtomic(path, a, 0o600);
    let writing = true;
    const writes = (async () => {
      for (let n = 0; n < 20; n++) await writeAtomic(path, n % 2 === 0 ? b : a, 0o600);
      writing = false;
    })();
    let reads = 0;
    for (; writing; reads++) {
      const seen = await readFile(path);
      assert.ok(seen.equals(a) || seen.equals(b));
    }
    await writes;
    assert.ok(reads > 0);
  });
});
