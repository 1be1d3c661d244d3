import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { detachedKey } from './detached-key.ts';

const PAIRS = {
  Ed25519: generateKeyPairSync('ed25519'),
  'P-256': generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  RSA: generateKeyPairSync('rsa', { modulusLength: 2048 }),
};

/** A small young generation, so that the garbage collector runs within many of the calls. */
const OFTEN = '--max-semi-space-size=1';
const HUNG_MS = 30_000;

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));

const PROGRAM = `
import { generateKeyPairSync } from 'node:crypto';
import { encodePublicKey } from ${JSON.stringify(here('ssh/public-key.ts'))};

let done = 0;
for (let round = 0; round < 600; round += 1) {
  const { publicKey } = generateKeyPairSync('ed25519');
  for (let time = 0; time < 20; time += 1) {
    if (encodePublicKey(publicKey).length === 51) done += 1;
  }
}
process.stdout.write(String(done));
`;

describe('detachedKey', () => {
  for (const [what, { privateKey, publicKey }] of Object.entries(PAIRS)) {
    it(`is the same key: ${what}`, () => {
      const detached = detachedKey(privateKey);
      assert.equal(detached.type, 'private');
      assert.ok(detached.equals(privateKey));
      assert.ok(createPublicKey(detached).equals(publicKey));
      assert.ok(detachedKey(publicKey).equals(publicKey));
    });
  }

  it('keeps a process that has just made its keys from freezing', function () {
    this.timeout(2 * HUNG_MS);
    const args = [OFTEN, '--import=tsx', '--input-type=module', '--eval', PROGRAM];
    const said = execFileSync(process.execPath, args, { encoding: 'utf8', timeout: HUNG_MS });
    assert.equal(said, '12000');
  });
});
