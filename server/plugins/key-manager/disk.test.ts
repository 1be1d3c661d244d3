import assert from 'node:assert/strict';
import { chmodSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generateKey } from '../../../identity/x509/key.ts';
import { temporaryDir } from '../../../test/fixtures/running-server.ts';
import { diskKeyManager } from './disk.ts';

describe('diskKeyManager', () => {
  it('gives a key back, kept for its owner alone', async () => {
    using dir = temporaryDir();
    const directory = join(dir.path, 'keys');
    const key = await generateKey('ec-p256');
    await diskKeyManager({ directory }).store('jwt-1', key);
    assert.ok((await diskKeyManager({ directory }).load('jwt-1'))?.equals(key));
    assert.equal(statSync(directory).mode & 0o777, 0o700);
    assert.equal(statSync(join(directory, 'jwt-1.pem')).mode & 0o777, 0o600);
  });

  it('has no key that was not stored', async () => {
    using dir = temporaryDir();
    assert.equal(await diskKeyManager({ directory: dir.path }).load('x'), undefined);
  });

  it('refuses a key that others could have read, and a file that holds none', async () => {
    using dir = temporaryDir();
    const keys = diskKeyManager({ directory: dir.path });
    await keys.store('open', await generateKey('ec-p256'));
    chmodSync(join(dir.path, 'open.pem'), 0o640);
    await assert.rejects(keys.load('open'), { code: 'STATE_UNUSABLE', message: /0600/ });
    writeFileSync(join(dir.path, 'junk.pem'), 'junk', { mode: 0o600 });
    await assert.rejects(keys.load('junk'), { code: 'STATE_UNUSABLE' });
  });

  for (const id of ['', '../up', 'a/b', 'A', '.x'])
    it(`has no place for a key named ${JSON.stringify(id)}`, async () => {
      await assert.rejects(diskKeyManager({ directory: '/nowhere' }).load(id), { name: 'Error' });
    });
});
