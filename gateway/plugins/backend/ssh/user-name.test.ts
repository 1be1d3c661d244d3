import assert from 'node:assert/strict';
import { readDirectUser, readInnerUser } from './user-name.ts';

const WRONG = { code: 'INVALID_ARGUMENT' };

describe('readDirectUser', () => {
  it('reads login, backend and grant', () => {
    assert.deepEqual(readDirectUser('deploy+web-1'), {
      login: 'deploy',
      backend: 'web-1',
      grant: '',
    });
    assert.deepEqual(readDirectUser('deploy+web-1+deploys-web'), {
      login: 'deploy',
      backend: 'web-1',
      grant: 'deploys-web',
    });
  });

  it('takes any name without + for a hop of ProxyJump', () => {
    for (const user of ['root', 'Ana Müller', '', 'a@b', '-oProxyCommand=x']) {
      assert.equal(readDirectUser(user), undefined);
    }
  });

  for (const user of [
    ...['+web-1', 'deploy+', 'deploy++read', 'deploy+web-1+', 'deploy+web-1+read+more'],
    ...['Deploy+web-1', '-deploy+web-1', 'deploy+web 1', 'deploy+web-1+re/ad', 'deploy\0+web-1'],
    ...[`${'d'.repeat(33)}+web-1`, `deploy+${'w'.repeat(129)}`, `deploy+web-1\n`],
  ]) {
    it(`refuses ${JSON.stringify(user).slice(0, 60)}`, () => {
      assert.throws(() => readDirectUser(user), WRONG);
    });
  }

  it('bounds every name, of a hop too', () => {
    assert.throws(() => readDirectUser('x'.repeat(257)), WRONG);
  });
});

describe('readInnerUser', () => {
  it('reads login and grant; the backend is where the client has jumped to', () => {
    assert.deepEqual(readInnerUser('deploy', 'web-1'), {
      login: 'deploy',
      backend: 'web-1',
      grant: '',
    });
    assert.deepEqual(readInnerUser('deploy+reads', 'web-1'), {
      login: 'deploy',
      backend: 'web-1',
      grant: 'reads',
    });
  });

  for (const user of ['', 'deploy+', '+reads', 'deploy+web-1+reads', 'Deploy', 'de ploy', 'a\0']) {
    it(`refuses ${JSON.stringify(user)}`, () => {
      assert.throws(() => readInnerUser(user, 'web-1'), WRONG);
    });
  }
});
