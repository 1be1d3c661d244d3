import assert from 'node:assert/strict';
import { chmodSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generateKey } from '../../../identity/x509/key.ts';
import { temporaryDir } from '../../../test/fixtures/running-server.ts';
import { diskKeyManager } from './disk.ts';
import { pemOf } from './key-id.ts';

describe('diskKeyManager', () => {
  it('finds a key again, kept for its owner alone', async () => {
    using dir = temporaryDir();
    const directory = join(dir.path, 'keys');
    const { publicKey } = await diskKeyManager({ directory }).generate('jwt-1', 'ec-p256');
    const found = await diskKeyManager({ directory }).find('jwt-1');
    assert.ok(found?.publicKey.equals(publicKey));
    assert.equal(statSync(directory).mode & 0o777, 0o700);
    assert.equal(statSync(join(directory, 'jwt-1.pem')).mode & 0o777, 0o600);
  });

  it('lists the keys that are there, and no other file', async () => {
    using dir = temporaryDir();
    const keys = diskKeyManager({ directory: dir.path });
    for (const id of ['b', 'a']) await keys.generate(id, 'ed25519');
    for (const name of ['a.pem.bak', '.c.pem', 'UP.pem']) writeFileSync(join(dir.path, name), 'x');
    assert.deepEqual(await keys.list(), ['a', 'b']);
  });

  it('refuses a key that others could have read, and a file that holds none', async () => {
    using dir = temporaryDir();
    const keys = diskKeyManager({ directory: dir.path });
    await keys.generate('open', 'ec-p256');
    chmodSync(join(dir.path, 'open.pem'), 0o640);
    await assert.rejects(keys.find('open'), { code: 'STATE_UNUSABLE', message: /0600/ });
    writeFileSync(join(dir.path, 'junk.pem'), 'junk', { mode: 0o600 });
    await assert.rejects(keys.find('junk'), { code: 'STATE_UNUSABLE' });
  });

  it('gives its keys out for a backup, and takes them over from one', async () => {
    using from = temporaryDir();
    using to = temporaryDir();
    const source = diskKeyManager({ directory: from.path });
    const { publicKey } = await source.generate('x509-1', 'ec-p384');
    const target = diskKeyManager({ directory: to.path });
    for await (const { id, pem } of source.exportKeys?.() ?? []) await target.importKey?.(id, pem);
    assert.ok((await target.find('x509-1'))?.publicKey.equals(publicKey));
    assert.equal(statSync(join(to.path, 'x509-1.pem')).mode & 0o777, 0o600);
    await assert.rejects(async () => target.importKey?.('x', 'junk'), { code: 'STATE_UNUSABLE' });
    const pem = pemOf(await generateKey('ed25519'));
    await assert.rejects(async () => target.importKey?.('../up', pem), { name: 'Error' });
  });

  it('keeps a wrapping key for its owner alone, and hands it over with the others', async () => {
    using from = temporaryDir();
    using to = temporaryDir();
    const context = Buffer.from('c');
    const key = await diskKeyManager({ directory: from.path }).wrapping.wrap(
      Buffer.from('k'),
      context,
    );
    const file = join(from.path, `${key.keyId}.kek`);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const source = diskKeyManager({ directory: from.path });
    const target = diskKeyManager({ directory: to.path });
    for await (const { id, pem } of source.exportKeys?.() ?? []) await target.importKey?.(id, pem);
    assert.deepEqual(Buffer.from(await target.wrapping.unwrap(key, context)), Buffer.from('k'));
    await target.remove(key.keyId);
    await assert.rejects(target.wrapping.unwrap(key, context), { code: 'STATE_UNUSABLE' });
    chmodSync(file, 0o640);
    await assert.rejects(source.wrapping.unwrap(key, context), { message: /0600/ });
    writeFileSync(join(to.path, 'kek-1.kek'), 'junk', { mode: 0o600 });
    await assert.rejects(target.wrapping.wrap(Buffer.from('k'), context), {
      message: /holds no wrapping key/,
    });
  });

  for (const id of ['', '../up', 'a/b', 'A', '.x'])
    it(`has no place for a key named ${JSON.stringify(id)}`, async () => {
      const keys = diskKeyManager({ directory: '/nowhere' });
      await assert.rejects(keys.find(id), { name: 'Error' });
      await assert.rejects(keys.generate(id, 'ed25519'), { name: 'Error' });
    });
});
