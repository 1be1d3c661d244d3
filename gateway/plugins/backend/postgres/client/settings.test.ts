import assert from 'node:assert/strict';
import { breaksPin, isPinnedValue, parseOptions, refusePinned } from './settings.ts';

describe('parseOptions', () => {
  it('reads the forms that PostgreSQL reads', () => {
    const options = '-c geqo=off -cjit=off --statement-timeout=5min  -c search_path=a\\ b';
    assert.deepEqual(parseOptions(options), [
      ['geqo', 'off'],
      ['jit', 'off'],
      ['statement_timeout', '5min'],
      ['search_path', 'a b'],
    ]);
  });

  it('takes a backslash before a backslash as one', () => {
    assert.deepEqual(parseOptions('-c a=x\\\\y'), [['a', 'x\\y']]);
  });

  it('refuses every other switch', () => {
    for (const options of [
      '-e',
      '-c',
      '-c geqo',
      '-S 1',
      'geqo=off',
      '-W 10',
      '-c =x',
      '-c 1a=b',
    ]) {
      assert.equal(parseOptions(options), undefined, options);
    }
  });
});

describe('refusePinned', () => {
  it('P11 refuses role, session_authorization and what the reading of a statement depends on', () => {
    for (const [name, value, rule] of [
      ['role', 'postgres', 'set-role'],
      ['session_authorization', 'postgres', 'set-role'],
      ['standard_conforming_strings', 'off', 'pinned-setting'],
      ['client_encoding', 'SJIS', 'pinned-setting'],
      ['client_encoding', 'GBK', 'pinned-setting'],
      ['backslash_quote', 'on', 'pinned-setting'],
      ['backslash_quote', undefined, 'pinned-setting'],
    ] as const) {
      assert.equal(refusePinned(name, value), rule, name);
    }
  });

  it('takes a pinned setting at its pinned value', () => {
    for (const encoding of ['UTF8', 'utf-8', 'utf_8', "'utf-8'", 'unicode', '"UTF8"']) {
      assert.equal(refusePinned('client_encoding', encoding), undefined, encoding);
    }
    assert.equal(refusePinned('standard_conforming_strings', 'on'), undefined);
    assert.equal(refusePinned('role', 'none'), undefined);
  });
});

describe('breaksPin', () => {
  it('P11 sees a reported change of identity or encoding', () => {
    assert.equal(breaksPin('session_authorization', 'postgres', 'writ_1'), true);
    assert.equal(breaksPin('role', 'postgres', 'writ_1'), true);
    assert.equal(breaksPin('is_superuser', 'on', 'writ_1'), true);
    assert.equal(breaksPin('client_encoding', 'SQL_ASCII', 'writ_1'), true);
    assert.equal(breaksPin('standard_conforming_strings', 'off', 'writ_1'), true);
  });

  it('lets all else change', () => {
    assert.equal(breaksPin('session_authorization', 'writ_1', 'writ_1'), false);
    assert.equal(breaksPin('role', 'none', 'writ_1'), false);
    assert.equal(breaksPin('TimeZone', 'UTC', 'writ_1'), false);
  });
});

describe('isPinnedValue', () => {
  it('does not take another encoding for UTF8', () => {
    for (const encoding of ['UTF16', 'LATIN1', 'UTF', '', 'utf88']) {
      assert.equal(isPinnedValue('client_encoding', encoding), false, encoding);
    }
  });
});
