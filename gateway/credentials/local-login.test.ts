import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { certificateLogin, environmentLogin, fileLogin } from './local-login.ts';

const never = new AbortController().signal;

describe('logins on the own host', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'writ-test-local-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const failsWith = (pattern: RegExp) => (error: Error) => {
    assert.equal((error as { code?: string }).code, 'UNAVAILABLE');
    assert.match(String(error.cause), pattern);
    return true;
  };

  it('reads a file at each login, without the newline at its end', async () => {
    const file = join(folder, 'password');
    const login = fileLogin('edge', file);
    for (const [text, password] of [
      ['one\n', 'one'],
      ['two\r\n', 'two'],
      [' three \n\n', ' three \n'],
    ] as const) {
      await writeFile(file, text);
      assert.deepEqual(await login.current(never), { user: 'edge', password });
    }
    await rm(file);
    await assert.rejects(login.current(never), failsWith(/ENOENT/));
  });

  it('takes no file that is empty, too long, endless or a folder', async () => {
    const file = join(folder, 'odd');
    for (const [text, pattern] of [
      ['\n', /odd is empty/],
      ['x'.repeat(64 * 1024 + 1), /odd is longer than 64 KiB/],
    ] as const) {
      await writeFile(file, text);
      await assert.rejects(fileLogin('edge', file).current(never), failsWith(pattern));
    }
    await assert.rejects(fileLogin('edge', '/dev/zero').current(never), failsWith(/longer than/));
    await assert.rejects(fileLogin('edge', folder).current(never), failsWith(/EISDIR/));
  });

  it('reads a variable of the environment, and tells its name alone where there is none', async () => {
    const environment = { SHOP: 'the password', EMPTY: '' };
    const login = environmentLogin('edge', 'SHOP', environment);
    assert.deepEqual(await login.current(never), { user: 'edge', password: 'the password' });
    for (const name of ['EMPTY', 'OTHER']) {
      const none = environmentLogin('edge', name, environment);
      await assert.rejects(none.current(never), failsWith(new RegExp(`no variable ${name}$`)));
    }
  });

  it('has no password where a certificate is all', async () => {
    assert.deepEqual(await certificateLogin('edge').current(never), {
      user: 'edge',
      password: undefined,
    });
  });
});
