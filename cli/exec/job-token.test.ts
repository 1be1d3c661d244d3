import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jobTokenSource } from './job-token.ts';

const SIGNAL = new AbortController().signal;
const TOKEN = 'eyJh.eyJz.c2ln';

describe('jobTokenSource', () => {
  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'writ-job-'));
    file = join(folder, 'token');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const source = (named: object, environment: NodeJS.ProcessEnv = {}) =>
    jobTokenSource({ variable: undefined, file: undefined, environment, ...named });
  const github = (url: string) => ({
    ACTIONS_ID_TOKEN_REQUEST_URL: url,
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'secret-bearer',
  });

  it('reads the variable or file that is named, before it asks GitHub', async () => {
    const environment = { ...github('https://127.0.0.1:1/'), JOB: `${TOKEN}\n` };
    assert.equal(await source({ variable: 'JOB' }, environment)('writ', SIGNAL), TOKEN);
    writeFileSync(file, `${TOKEN}\n`);
    assert.equal(await source({ file }, environment)('writ', SIGNAL), TOKEN);
  });

  it('refuses what is no token, without its text', async () => {
    for (const wrong of ['', 'one', 'a.b', 'a.b.c.d', `${TOKEN}x y`, 'x'.repeat(17_000)]) {
      writeFileSync(file, wrong);
      const refused = (error: Error) => !error.message.includes(wrong || '\0');
      await assert.rejects(source({ file })('writ', SIGNAL), refused);
      await assert.rejects(source({ variable: 'JOB' }, { JOB: wrong })('writ', SIGNAL), refused);
    }
  });

  it('shows GitHub’s credential to no server without TLS, and to none that is not there', async () => {
    const plain = source({}, github('http://127.0.0.1:1/mint'));
    await assert.rejects(plain('writ', SIGNAL), { code: 'CONFIG_INVALID' });
    await assert.rejects(source({}, github('no URL'))('writ', SIGNAL), { code: 'CONFIG_INVALID' });
    const away = source({}, github('https://127.0.0.1:1/mint'));
    await assert.rejects(away('writ', SIGNAL), (error: Error) => {
      assert.ok(!error.message.includes('secret-bearer'));
      return 'code' in error && error.code === 'UNAVAILABLE';
    });
  });

  it('says what is missing', () => {
    assert.throws(() => source({}), { code: 'USAGE', message: /id-token: write/ });
    assert.throws(() => source({ file: 'a', variable: 'B' }), { code: 'USAGE' });
  });
});
