import assert from 'node:assert/strict';
import { SettingRules } from './setting-rules.ts';

const rules = new SettingRules({
  settingsAllowed: ['app.locale', 'default_statistics_target'],
  settingCeilings: { statement_timeout: 30_000n, work_mem: 65_536n, temp_buffers: 8192n },
});
const one = (name: string, value: string | undefined) => rules.refuse([{ name, value }]);

describe('SettingRules', () => {
  it('P11 lets sessions change what every session may, and what the backend allows besides', () => {
    assert.equal(one('timezone', 'UTC'), undefined);
    assert.equal(one('enable_seqscan', 'off'), undefined);
    assert.equal(one('app.locale', 'de'), undefined);
    assert.equal(one('default_statistics_target', '1000'), undefined);
    assert.equal(new SettingRules().refuse([{ name: 'app.locale', value: 'de' }]), NOT_ALLOWED);
    assert.equal(one('app.tenant', '7'), NOT_ALLOWED);
    assert.equal(one('log_statement', 'all'), NOT_ALLOWED);
  });

  it('P11 lets a client lower what has a ceiling, and neither pass nor remove it', () => {
    for (const value of ['30s', '30000', '1', '0.5 min']) {
      assert.equal(one('statement_timeout', value), undefined, value);
    }
    for (const value of ['0', '31s', '30001', '1h', '100us', '', undefined]) {
      assert.equal(one('statement_timeout', value), TOO_HIGH, value);
    }
    assert.equal(one('work_mem', '64MB'), undefined);
    assert.equal(one('work_mem', '65MB'), TOO_HIGH);
    assert.equal(one('temp_buffers', '8MB'), undefined);
    assert.equal(one('lock_timeout', '0'), undefined);
  });

  it('has ceilings of its own', () => {
    const builtIn = new SettingRules();
    assert.equal(builtIn.refuse([{ name: 'work_mem', value: '256MB' }]), undefined);
    assert.equal(builtIn.refuse([{ name: 'work_mem', value: '257MB' }]), TOO_HIGH);
    const workers = 'max_parallel_workers_per_gather';
    assert.equal(builtIn.refuse([{ name: workers, value: '5' }]), TOO_HIGH);
    assert.equal(builtIn.refuse([{ name: 'statement_timeout', value: '0' }]), undefined);
  });

  it('refuses several changes if one of them may not happen', () => {
    const changes = [
      { name: 'timezone', value: 'UTC' },
      { name: 'work_mem', value: '1GB' },
    ];
    assert.equal(rules.refuse(changes), TOO_HIGH);
    assert.equal(rules.refuse([]), undefined);
  });

  it('starts sessions at the ceilings of timeouts alone', () => {
    assert.deepEqual(rules.startingTimeouts(), [['statement_timeout', '30000']]);
    assert.deepEqual(new SettingRules().startingTimeouts(), []);
  });
});

const NOT_ALLOWED = 'setting-not-allowed';
const TOO_HIGH = 'setting-too-high';
