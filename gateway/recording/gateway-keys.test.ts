import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmod, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadGatewayKeys } from './gateway-keys.ts';

describe('loadGatewayKeys', () => {
  let stateDir: string;
  beforeEach(async () => {
    stateDir = await mkdtemp(join(tmpdir(), 'writ-keys-'));
  });
  afterEach(() => rm(stateDir, { recursive: true }));

  it('makes both keys once, for their owner alone', async () => {
    const first = await loadGatewayKeys(stateDir);
    const second = await loadGatewayKeys(stateDir);
    assert.deepEqual(second.hmacKey, first.hmacKey);
    assert.deepEqual(second.recording.publicKey, first.recording.publicKey);
    assert.deepEqual([first.hmacKey.length, first.recording.publicKey.length], [32, 32]);
    const { keyId, publicKey } = first.recording;
    assert.deepEqual(keyId, createHash('sha256').update(publicKey).digest());
    for (const name of await readdir(stateDir)) {
      assert.equal((await stat(join(stateDir, name))).mode & 0o777, 0o600, name);
    }
  });

  it('refuses a key that others may read', async () => {
    await loadGatewayKeys(stateDir);
    await chmod(join(stateDir, 'hmac-key'), 0o640);
    await assert.rejects(loadGatewayKeys(stateDir), { code: 'STATE_UNUSABLE' });
  });

  for (const [name, content] of [
    ['hmac-key', 'short'],
    ['recording-key.pem', 'no key'],
  ] as const) {
    it(`refuses a broken ${name} rather than making a new one`, async () => {
      await loadGatewayKeys(stateDir);
      await writeFile(join(stateDir, name), content);
      await assert.rejects(loadGatewayKeys(stateDir), { code: 'STATE_UNUSABLE' });
    });
  }
});
