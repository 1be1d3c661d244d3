import assert from 'node:assert/strict';
import { readStatus, statusNumbers } from './process-status.ts';

const TEXT = 'Name:\tcat\nPPid:\t7\nUid:\t1\t2\t3\t4\nGroups:\t4 24 \nNSpid:\t9\t1\n';

describe('readStatus', () => {
  it('reads the whole text of a process, and throws where there is none', () => {
    const text = readStatus(process.pid);
    assert.deepEqual(statusNumbers(text, 'Pid:'), [process.pid]);
    assert.ok(text.endsWith('\n'));
    assert.throws(() => readStatus(2 ** 30), { code: 'ENOENT' });
  });
});

describe('statusNumbers', () => {
  it('reads the numbers of a field, none of one that is not there', () => {
    assert.deepEqual(statusNumbers(TEXT, 'Uid:'), [1, 2, 3, 4]);
    assert.deepEqual(statusNumbers(TEXT, 'Groups:'), [4, 24]);
    assert.deepEqual(statusNumbers(TEXT, 'Gid:'), []);
    assert.deepEqual(statusNumbers('Uid:\t5', 'Uid:'), [5]);
  });

  it('takes no line from the name that a process gives itself', () => {
    for (const name of ['\rPPid:\t1', 'PPid:\t1', '\\nPPid:\t1', '\u2028PPid:\t1', '\0PPid:\t1']) {
      const text = TEXT.replace('cat', name);
      assert.deepEqual(statusNumbers(text, 'PPid:'), [7], JSON.stringify(name));
    }
  });

  it('refuses what is no number', () => {
    for (const value of ['x', '-1', '1.5', '1e3', '99999999999']) {
      assert.throws(() => statusNumbers(`Uid:\t1\t${value}\n`, 'Uid:'), value);
    }
  });
});
