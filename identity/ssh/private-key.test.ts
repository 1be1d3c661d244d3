import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { opensshPrivateKey } from './private-key.ts';
import { encodePublicKey, publicKeyLine } from './public-key.ts';

const MAKERS: Record<string, () => KeyObject> = {
  'ssh-ed25519': () => generateKeyPairSync('ed25519').privateKey,
  'ecdsa-sha2-nistp256': () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
  'ecdsa-sha2-nistp384': () => generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey,
  'ecdsa-sha2-nistp521': () => generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey,
  'ssh-rsa': () => generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey,
};

describe('opensshPrivateKey', () => {
  let directory: string;

  before(function () {
    if (!hasProgram('ssh-keygen')) skipWithout(this, 'ssh-keygen');
    directory = mkdtempSync(join(tmpdir(), 'writ-ssh-'));
  });

  after(() => {
    if (directory !== undefined) rmSync(directory, { recursive: true });
  });

  const publicHalf = (file: string) =>
    execFileSync('ssh-keygen', ['-y', '-f', file], { encoding: 'utf8' }).trim();

  for (const [type, make] of Object.entries(MAKERS)) {
    it(`writes what ssh-keygen reads, at every length of comment: ${type}`, () => {
      const key = make();
      for (let length = 0; length < 9; length += 1) {
        const comment = 'c'.repeat(length);
        const file = join(directory, `${type}-${length}`);
        writeFileSync(file, opensshPrivateKey(key, comment), { mode: 0o600 });
        assert.equal(publicHalf(file), publicKeyLine(encodePublicKey(key), comment));
      }
    });
  }

  it('refuses a key that SSH does not have, and a comment of two lines', () => {
    const x25519 = generateKeyPairSync('x25519').privateKey;
    assert.throws(() => opensshPrivateKey(x25519), { code: 'SSH_INVALID' });
    const { privateKey } = generateKeyPairSync('ed25519');
    assert.throws(() => opensshPrivateKey(privateKey, 'a\nb'), { code: 'SSH_INVALID' });
  });

  it('refuses a public key', () => {
    const { publicKey } = generateKeyPairSync('ed25519');
    assert.throws(() => opensshPrivateKey(publicKey), /not a private key/);
  });
});
