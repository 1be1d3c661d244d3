import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { k8sPsatNodeAttestor } from './k8s-psat.ts';
import { oidcNodeAttestor } from './oidc.ts';

const SIGNAL = new AbortController().signal;
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('utf8');

describe('node attestors that show a token from a file', () => {
  let folder: string;
  let tokenFile: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'writ-token-'));
    tokenFile = join(folder, 'token');
    writeFileSync(tokenFile, 'first.token.x\n');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('k8s_psat: shows it with the name of the cluster, fresh each time', async () => {
    const attestor = k8sPsatNodeAttestor({ cluster: 'prod', tokenFile });
    assert.equal(
      text(await attestor.evidence(SIGNAL)),
      '{"cluster":"prod","token":"first.token.x"}',
    );
    writeFileSync(tokenFile, 'second');
    assert.equal(text(await attestor.evidence(SIGNAL)), '{"cluster":"prod","token":"second"}');
    await assert.rejects(attestor.answer(Buffer.of(1), SIGNAL), { code: 'ATTESTATION_DENIED' });
  });

  it('oidc: names the provider, and shows it when it is asked', async () => {
    const attestor = oidcNodeAttestor({ provider: 'ci', tokenFile });
    assert.equal(text(await attestor.evidence(SIGNAL)), '{"provider":"ci"}');
    assert.equal(text(await attestor.answer(Buffer.from('{}'), SIGNAL)), 'first.token.x');
  });

  it('refuses a file that holds no token, without its text', async () => {
    const attestor = k8sPsatNodeAttestor({ cluster: 'prod', tokenFile });
    for (const wrong of ['', 'two words', 'x'.repeat(16_385)]) {
      writeFileSync(tokenFile, wrong);
      await assert.rejects(attestor.evidence(SIGNAL), {
        code: 'CONFIG_INVALID',
        message: `${tokenFile} holds no token`,
      });
    }
    rmSync(tokenFile);
    await assert.rejects(attestor.evidence(SIGNAL), { code: 'CONFIG_INVALID' });
  });
});
