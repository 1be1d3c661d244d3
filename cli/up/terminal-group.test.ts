import assert from 'node:assert/strict';
import { needsTerminalGroup } from './terminal-group.ts';

const WITH = 'devpts /dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=000 0 0';
const WITHOUT = 'devpts /dev/pts devpts rw,relatime,mode=600,ptmxmode=000 0 0';

describe('needsTerminalGroup', () => {
  it('is true where the kernel gives terminals to no group', () => {
    assert.equal(needsTerminalGroup(`proc /proc proc rw 0 0\n${WITHOUT}\n`), true);
    assert.equal(needsTerminalGroup(''), true);
    assert.equal(needsTerminalGroup(`${WITH}\n${WITHOUT}`), true);
  });

  it('is false where the group has the terminals of all users, which no session may write to', () => {
    assert.equal(needsTerminalGroup(`${WITHOUT}\n${WITH}\n`), false);
    assert.equal(needsTerminalGroup(`${WITH}\nx /mnt/pts devpts rw 0 0`), false);
  });
});
