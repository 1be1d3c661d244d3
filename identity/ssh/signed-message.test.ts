import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync, sign } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import type { Signer } from '../signer.ts';
import { encodePublicKey } from './public-key.ts';
import { signerOfMessage, signMessage } from './signed-message.ts';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const signer: Signer = { publicKey, sign: (data) => sign(null, data, privateKey) };
const MESSAGE = Buffer.from('no path reads a classified column');

describe('signMessage', () => {
  it('is verified with the key that signed, for its namespace and message alone', async () => {
    const signed = await signMessage(signer, 'writ-proof', MESSAGE);
    assert.deepEqual(signerOfMessage('writ-proof', MESSAGE, signed), encodePublicKey(publicKey));
    const invalid = { code: 'SSH_INVALID' };
    assert.throws(() => signerOfMessage('file', MESSAGE, signed), invalid);
    assert.throws(() => signerOfMessage('writ-proof', Buffer.from('x'), signed), invalid);
    for (let at = 0; at < signed.length; at += 1) {
      const changed = Buffer.from(signed);
      changed[at] = (changed[at] ?? 0) ^ 1;
      assert.throws(() => signerOfMessage('writ-proof', MESSAGE, changed));
      assert.throws(() => signerOfMessage('writ-proof', MESSAGE, signed.subarray(0, at)), invalid);
    }
  });

  it('is understood by ssh-keygen', async function () {
    if (!hasProgram('ssh-keygen')) skipWithout(this, 'ssh-keygen');
    const folder = await mkdtemp(join(tmpdir(), 'writ-signed-'));
    const signed = await signMessage(signer, 'writ-proof', MESSAGE);
    const lines = signed.toString('base64').replaceAll(/.{70}/g, '$&\n');
    const file = join(folder, 'signature');
    await writeFile(file, `-----BEGIN SSH SIGNATURE-----\n${lines}\n-----END SSH SIGNATURE-----\n`);
    const args = ['-Y', 'check-novalidate', '-n', 'writ-proof', '-s', file];
    const outcome = spawnSync('ssh-keygen', args, { input: MESSAGE, encoding: 'utf8' });
    await rm(folder, { recursive: true, force: true });
    assert.equal(outcome.status, 0, outcome.stderr);
  });
});
