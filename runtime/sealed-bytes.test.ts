import assert from 'node:assert/strict';
import { createSecretKey, randomBytes } from 'node:crypto';
import { sealBytes, unsealBytes } from './sealed-bytes.ts';

describe('sealBytes', () => {
  const key = createSecretKey(randomBytes(32));
  const plain = Buffer.from('a password');
  const context = Buffer.from('for this');

  it('gives the bytes back to the same key in the same context', () => {
    const sealed = sealBytes(key, plain, context);
    assert.deepEqual(unsealBytes(key, sealed, context), new Uint8Array(plain));
    assert.ok(!Buffer.from(sealed).includes(plain));
    assert.notDeepEqual(sealBytes(key, plain, context), sealed);
    assert.deepEqual(
      unsealBytes(key, sealBytes(key, Buffer.alloc(0), context), context)?.length,
      0,
    );
  });

  it('gives nothing to another key or in another context', () => {
    const sealed = sealBytes(key, plain, context);
    assert.equal(unsealBytes(createSecretKey(randomBytes(32)), sealed, context), undefined);
    assert.equal(unsealBytes(key, sealed, Buffer.from('for that')), undefined);
  });

  it('gives nothing where any bit has changed, or bytes are missing', () => {
    const sealed = sealBytes(key, plain, context);
    for (let at = 0; at < sealed.length; at += 1) {
      const changed = sealed.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      assert.equal(unsealBytes(key, changed, context), undefined, String(at));
      assert.equal(unsealBytes(key, sealed.subarray(0, at), context), undefined, String(at));
    }
  });
});
