import assert from 'node:assert/strict';
import { TtlPolicy, type TtlRule, ttlConflict } from './ttl-policy.ts';

describe('TtlPolicy', () => {
  const policy = new TtlPolicy([
    { x509_svid_max: 3600, jwt_svid_max: 300 },
    { environment: 'prod', x509_svid_max: 900 },
    { kind: 'ci', jwt_svid_max: 60 },
    { environment: 'prod', kind: 'ci', x509_svid_max: 120 },
  ]);
  const prodCi = { environment: 'prod', kind: 'ci' } as const;

  it('takes of each maximum the rule that names most', () => {
    assert.equal(policy.maximumSeconds(prodCi, 'x509_svid'), 120);
    assert.equal(policy.maximumSeconds({ ...prodCi, kind: 'service' }, 'x509_svid'), 900);
    assert.equal(policy.maximumSeconds({ ...prodCi, environment: 'test' }, 'x509_svid'), 3600);
  });

  it('goes on to the next rule where one does not speak of a credential', () => {
    assert.equal(policy.maximumSeconds(prodCi, 'jwt_svid'), 60);
    assert.equal(policy.maximumSeconds({ ...prodCi, kind: 'service' }, 'jwt_svid'), 300);
    assert.equal(policy.maximumSeconds(prodCi, 'ssh_certificate'), Number.POSITIVE_INFINITY);
  });

  it('bounds nothing without rules', () => {
    const unbounded = new TtlPolicy([]).maximumSeconds(prodCi, 'jwt_svid');
    assert.equal(unbounded, Number.POSITIVE_INFINITY);
  });

  it('takes rules in any order', () => {
    const backwards = new TtlPolicy([{ ...prodCi, x509_svid_max: 5 }, { x509_svid_max: 9 }]);
    assert.equal(backwards.maximumSeconds(prodCi, 'x509_svid'), 5);
  });
});

describe('ttlConflict', () => {
  const env = { environment: 'prod', x509_svid_max: 9 };
  const kind = { kind: 'ci', x509_svid_max: 8 } as const;
  const both = { environment: 'prod', kind: 'ci', x509_svid_max: 7 } as const;
  const clear: [string, TtlRule[]][] = [
    ['an environment and a kind with a rule for both', [env, kind, both]],
    ['two environments', [env, { ...env, environment: 'test' }]],
    [
      'an environment and a kind that speak of different credentials',
      [env, { kind: 'ci', jwt_svid_max: 8 }],
    ],
    [
      'one environment twice, for different credentials',
      [env, { environment: 'prod', jwt_svid_max: 8 }],
    ],
  ];
  for (const [what, rules] of clear)
    it(`takes ${what}`, () => assert.equal(ttlConflict(rules), undefined));

  const ambiguous: [string, TtlRule[]][] = [
    ['an environment and a kind without a rule for both', [env, kind]],
    [
      'one whose rule for both bounds another credential',
      [env, kind, { environment: 'prod', kind: 'ci', jwt_svid_max: 1 }],
    ],
    ['one environment twice', [env, { ...env, x509_svid_max: 10 }]],
    ['two rules for all', [{ jwt_svid_max: 1 }, { jwt_svid_max: 2 }]],
    ['both twice', [both, { ...both }]],
  ];
  for (const [what, rules] of ambiguous) {
    it(`refuses ${what}`, () => {
      assert.match(ttlConflict(rules) ?? '', /_max: /);
      assert.throws(() => new TtlPolicy(rules), { code: 'CONFIG_INVALID' });
    });
  }
});
