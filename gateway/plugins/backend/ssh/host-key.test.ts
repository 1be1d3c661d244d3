import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodePublicKey } from '../../../../identity/ssh/public-key.ts';
import { loadHostKey } from './host-key.ts';

describe('loadHostKey', () => {
  let stateDir: string;
  const path = () => join(stateDir, 'ssh/host_ed25519');
  beforeEach(async () => {
    stateDir = await mkdtemp(join(tmpdir(), 'writ-host-key-'));
  });
  afterEach(() => rm(stateDir, { recursive: true }));

  it('makes one key, for its owner alone, and finds it again', async () => {
    const made = await loadHostKey(stateDir);
    const found = await loadHostKey(stateDir);
    assert.deepEqual(encodePublicKey(found), encodePublicKey(made));
    assert.equal((await stat(path())).mode & 0o777, 0o600);
    assert.equal((await stat(join(stateDir, 'ssh'))).mode & 0o777, 0o700);
  });

  it('refuses a key that others may read', async () => {
    await loadHostKey(stateDir);
    await chmod(path(), 0o640);
    await assert.rejects(loadHostKey(stateDir), { code: 'STATE_UNUSABLE', message: /chmod 600/ });
  });

  it('refuses a broken key rather than making a new one', async () => {
    await loadHostKey(stateDir);
    await writeFile(path(), 'no key');
    await assert.rejects(loadHostKey(stateDir), { code: 'STATE_UNUSABLE', message: /no key/ });
  });
});
