import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSecretFile } from './secret-file.ts';

describe('readSecretFile', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'writ-test-secret-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  const read = async (content: string | Buffer) => {
    const file = join(folder, 'secret');
    writeFileSync(file, content);
    return readSecretFile(file);
  };

  it('takes one newline off the end, and changes no byte', async () => {
    assert.equal(String(await read('a b\n')), 'a b');
    assert.equal(String(await read('a b\r\n')), 'a b');
    assert.equal(String(await read('a\n\n')), 'a\n');
    assert.equal(String(await read('a')), 'a');
    assert.deepEqual([...(await read(Buffer.of(0xff, 0x61)))], [0xff, 0x61]);
    assert.equal((await read('x'.repeat(65_536))).length, 65_536);
  });

  it('refuses what is empty or longer than 64 KiB, and stops reading there', async () => {
    for (const empty of ['', '\n', '\r\n']) await assert.rejects(read(empty), /secret is empty$/);
    await assert.rejects(read('x'.repeat(65_537)), /secret is longer than 64 KiB$/);
    await assert.rejects(readSecretFile('/dev/zero'), /longer than 64 KiB$/);
    await assert.rejects(readSecretFile(join(folder, 'none')), { code: 'ENOENT' });
  });
});
