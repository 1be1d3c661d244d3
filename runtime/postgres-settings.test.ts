import assert from 'node:assert/strict';
import {
  isAllowableSetting,
  isHarmlessSetting,
  type SettingUnit,
  settingAmount,
} from './postgres-settings.ts';

describe('settingAmount', () => {
  it('reads amounts as the server does', () => {
    const amounts: readonly (readonly [SettingUnit, string, number])[] = [
      ['ms', '30000', 30_000],
      ['ms', '30s', 30_000],
      ['ms', ' 1.5 min ', 90_000],
      ['ms', '2h', 7_200_000],
      ['ms', '1d', 86_400_000],
      ['kB', '64MB', 65_536],
      ['kB', '1 GB', 1_048_576],
      ['kB', '2048B', 2],
      ['kB', '64', 64],
      ['count', '4', 4],
      ['count', '0', 0],
    ];
    for (const [unit, text, amount] of amounts) assert.equal(settingAmount(unit, text), amount);
  });

  it('P11 takes no value that switches a limit off, and none that it does not understand', () => {
    for (const text of ['0', '0s', '0.4', '400us', '-1', '', 'off', '1e9', '0x10', '010', '5 m']) {
      assert.equal(settingAmount('ms', text), undefined, text);
    }
    for (const text of ['64mb', '64kb', '1 Gb', '1GBB', 'constructor']) {
      assert.equal(settingAmount('kB', text), undefined, text);
    }
    assert.equal(settingAmount('count', '4MB'), undefined);
  });
});

describe('isAllowableSetting', () => {
  it('P11 takes harmless settings, some more, and custom ones', () => {
    for (const name of ['search_path', 'enable_seqscan', 'maintenance_work_mem', 'app.locale']) {
      assert.equal(isAllowableSetting(name), true, name);
    }
    assert.equal(isHarmlessSetting('maintenance_work_mem'), false);
  });

  it('P11 never takes what the gateway rests on, needs a superuser, loads code or prints', () => {
    const never = ['client_encoding', 'standard_conforming_strings', 'backslash_quote', 'role'];
    never.push('session_authorization', 'temp_file_limit', 'session_replication_role');
    never.push('log_statement', 'local_preload_libraries', 'debug_print_plan', 'event_triggers');
    never.push('client_connection_check_interval', 'createrole_self_grant', 'password_encryption');
    never.push('writ.reason', 'plpgsql.variable_conflict', 'pg_stat_statements.track', 'no_such');
    for (const name of never) assert.equal(isAllowableSetting(name), false, name);
  });
});
