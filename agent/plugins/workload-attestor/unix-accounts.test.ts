import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AccountNames, parseAccounts } from './unix-accounts.ts';

describe('parseAccounts', () => {
  it('keeps the first name of a number, as getpwuid does', () => {
    const names = parseAccounts('root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\n');
    assert.deepEqual([...names], [[0, 'root']]);
  });

  it('passes over comments, NIS lines and numbers that are none', () => {
    const text =
      '# comment\n+::::::\n:x:5:\nbad:x:-1:\nworse:x:1e3:\nlong:x:99999999999:\nok:x:7:\n';
    assert.deepEqual([...parseAccounts(text)], [[7, 'ok']]);
  });
});

describe('AccountNames', () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'writ-accounts-'));
  });
  after(() => rm(directory, { recursive: true }));

  it('reads the file again once it has changed', async () => {
    const file = join(directory, 'passwd');
    await writeFile(file, 'ana:x:1000:1000::/:/bin/sh\n');
    const names = new AccountNames(file);
    assert.equal(await names.nameOf(1000), 'ana');
    await writeFile(file, 'ana:x:1001:1001::/:/bin/sh\nbruno:x:1000:1000::/:/bin/sh\n');
    assert.equal(await names.nameOf(1000), 'bruno');
  });

  it('knows no name when the file cannot be read', async () => {
    assert.equal(await new AccountNames(join(directory, 'none')).nameOf(0), undefined);
  });
});
