import assert from 'node:assert/strict';
import { breaksPin, isPinnedValue, parseOptions, refuseSetting } from './settings.ts';

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

describe('refuseSetting', () => {
  it('P11 refuses role, session_authorization and what the reading of a statement depends on', () => {
    for (const [name, value] of [
      ['role', 'postgres'],
      ['session_authorization', 'postgres'],
      ['standard_conforming_strings', 'off'],
      ['client_encoding', 'SJIS'],
      ['client_encoding', 'GBK'],
      ['backslash_quote', 'on'],
    ] as const) {
      assert.equal(refuseSetting(name, value)?.sqlstate, '42501', name);
    }
  });

  it('takes a pinned setting at its pinned value', () => {
    for (const encoding of ['UTF8', 'utf-8', "'utf-8'", 'unicode', '"UTF8"']) {
      assert.equal(refuseSetting('client_encoding', encoding), undefined, encoding);
    }
    assert.equal(refuseSetting('standard_conforming_strings', 'on'), undefined);
  });

  it('refuses what is not on the list', () => {
    for (const name of ['log_statement', 'session_preload_libraries', 'row_security', 'x.y']) {
      assert.equal(refuseSetting(name, 'on')?.sqlstate, '42501', name);
    }
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
