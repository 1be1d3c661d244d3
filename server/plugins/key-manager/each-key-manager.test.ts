import assert from 'node:assert/strict';
import { verify } from 'node:crypto';
import { rmSync } from 'node:fs';
import { keyTypeName } from '../../../identity/x509/key.ts';
import { algorithmFor } from '../../../identity/x509/signature.ts';
import { temporaryDir } from '../../../test/fixtures/running-server.ts';
import { diskKeyManager } from './disk.ts';
import type { KeyManager } from './key-manager.ts';
import { memoryKeyManager } from './memory.ts';

for (const type of ['disk', 'memory'] as const)
  describe(`key manager ${type}`, () => {
    let directory: string;
    let keys: KeyManager;
    beforeEach(() => {
      directory = temporaryDir().path;
      keys = type === 'disk' ? diskKeyManager({ directory }) : memoryKeyManager();
    });
    afterEach(() => rmSync(directory, { recursive: true }));

    for (const keyType of ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048', 'rsa-4096'] as const)
      it(`signs with ${keyType} at once, also with the key that it finds again`, async () => {
        const made = await keys.generate('k', keyType);
        assert.equal(keyTypeName(made.publicKey), keyType);
        const found = await keys.find('k');
        assert.ok(found?.publicKey.equals(made.publicKey));
        assert.ok(found);
        const algorithm = algorithmFor(made.publicKey);
        const data = Buffer.from('data');
        for (const signer of [made, found]) {
          const signature = signer.sign(data, algorithm);
          assert.ok(signature instanceof Uint8Array);
          assert.ok(verify(algorithm.hash, data, made.publicKey, signature));
        }
      }).timeout(30_000);

    it('has no key that was not made, and none that was removed', async () => {
      assert.equal(await keys.find('x'), undefined);
      await keys.generate('x', 'ec-p256');
      assert.deepEqual(await keys.list(), ['x']);
      await keys.remove('x');
      await keys.remove('x');
      assert.deepEqual([await keys.find('x'), await keys.list()], [undefined, []]);
    });

    it('makes a new key under an id that is taken', async () => {
      const first = await keys.generate('x', 'ec-p256');
      const second = await keys.generate('x', 'ec-p256');
      assert.ok(!second.publicKey.equals(first.publicKey));
      assert.ok((await keys.find('x'))?.publicKey.equals(second.publicKey));
    });

    it('unwraps what it has wrapped, for the same thing alone', async () => {
      const [data, context] = [Buffer.from('a data key'), Buffer.from('for this')];
      const key = await keys.wrapping.wrap(data, context);
      assert.match(key.keyId, /^kek-[0-9a-f]{16}$/);
      assert.ok(!Buffer.from(key.wrapped).includes(data));
      assert.deepEqual(Buffer.from(await keys.wrapping.unwrap(key, context)), data);
      const refused = { code: 'STATE_UNUSABLE' };
      await assert.rejects(keys.wrapping.unwrap(key, Buffer.from('for that')), refused);
      const cut = { ...key, wrapped: key.wrapped.subarray(1) };
      await assert.rejects(keys.wrapping.unwrap(cut, context), refused);
      const foreign = { ...key, keyId: 'kek-0000000000000000' };
      await assert.rejects(keys.wrapping.unwrap(foreign, context), refused);
    });

    it('makes one wrapping key, however many ask for it at once, and lists it with none', async () => {
      const context = Buffer.from('c');
      const wrap = () => keys.wrapping.wrap(Buffer.from('k'), context);
      const wrapped = [...(await Promise.all([wrap(), wrap(), wrap()])), await wrap()];
      assert.equal(new Set(wrapped.map(({ keyId }) => keyId)).size, 1);
      assert.deepEqual(await keys.list(), []);
    });

    it('gives keys out only if it keeps them anyway', () => {
      const gives = keys.exportKeys !== undefined && keys.importKey !== undefined;
      assert.equal(gives, type === 'disk');
    });
  });
