import assert from 'node:assert/strict';
import * as v from 'valibot';
import { parseTrustDomain } from '../../../identity/spiffe-id.ts';
import { oidcAgentId } from './oidc-agent-id.ts';
import { type ClaimValue, oidcSchema } from './oidc-config.ts';

const GITHUB = {
  name: 'github',
  preset: 'github',
  audience: 'writ',
  claims: { repository_id: '7' },
};
const problems = (...issuers: object[]) => {
  const result = v.safeParse(oidcSchema, { issuers });
  return result.success ? '' : result.issues.map(({ message }) => message).join('\n');
};

describe('oidcSchema', () => {
  it('knows the issuers of its presets, and makes an agent of each token', () => {
    assert.equal(problems(GITHUB), '');
    const { issuers } = v.parse(oidcSchema, { issuers: [GITHUB] });
    assert.equal(issuers[0]?.agent_per, 'token');
  });

  it('S11: refuses rules that only names of a repository or project stand in, and says why', () => {
    for (const claims of [
      { repository: 'acme/shop' },
      { repository_owner: 'acme', ref: 'refs/heads/main' },
      { sub: 'repo:acme/shop:ref:refs/heads/main' },
    ])
      assert.match(problems({ ...GITHUB, claims }), /repository_id or repository_owner_id/);
    const gitlab = { ...GITHUB, name: 'gitlab', preset: 'gitlab' };
    const claims = { project_path: 'acme/shop' };
    assert.match(problems({ ...gitlab, claims }), /project_id or namespace_id/);
    assert.equal(problems({ ...gitlab, claims: { ...claims, namespace_id: '3' } }), '');
  });

  it('S11: refuses a number that YAML took for one, since a token has it as a text', () => {
    assert.match(problems({ ...GITHUB, claims: { repository_id: 7 } }), /as a text/);
  });

  it('does not let the laxer preset judge the tokens of a known issuer', () => {
    const issuer = 'https://token.actions.githubusercontent.com';
    const generic = { ...GITHUB, preset: 'generic', issuer, claims: { repository: 'acme/shop' } };
    assert.match(problems(generic), /preset: github/);
  });

  const wrong: [string, object, RegExp][] = [
    ['no rule at all', { claims: {} }, /1 to 16 claims/],
    ['a rule without a value', { claims: { repository_id: [] } }, /./],
    ['a rule for the audience', { claims: { repository_id: '7', aud: 'x' } }, /./],
    ['an issuer over http', { issuer: 'http://127.0.0.1/' }, /https/],
    ['keys over http', { jwks_url: 'http://127.0.0.1/' }, /https/],
    ['two places for keys', { jwks_url: 'https://a/', jwks_file: '/b' }, /not both/],
    ['a generic issuer without a name', { preset: 'generic' }, /an issuer/],
    ['a name that is no segment', { name: 'a/b' }, /a-z/],
    ['an unknown key', { repository: 'x' }, /./],
  ];
  for (const [what, more, message] of wrong)
    it(`refuses ${what}`, () => {
      assert.match(problems({ ...GITHUB, ...more }), message);
    });

  it('refuses two issuers of one name', () => {
    assert.match(problems(GITHUB, GITHUB), /different names/);
  });
});

describe('oidcAgentId', () => {
  const path = (...claims: [string, ClaimValue][]) =>
    oidcAgentId(
      parseTrustDomain('example.org'),
      'ci',
      claims.map(([name, value]) => ({ name, value })),
    ).path.slice('/spire/agent/oidc/ci'.length);

  it('writes what a segment may hold as it is, and every other byte in hex', () => {
    assert.equal(
      path(['ref', 'refs/heads/é'], ['id', 'a_b-1']),
      '/ref/refs.2Fheads.2F.C3.A9/id/a_b-1',
    );
  });

  it('S11: two sets of claims never have one path', () => {
    const values: ClaimValue[] = [
      ...['', '.', '..', '.2E', 'a/b', 'a.2Fb', 'a', '5', 'n5', '.n5', 'true', '.true', '.z', 'é'],
      ...[5, -5, 0, true, false],
    ];
    const sets: [string, ClaimValue][][] = [
      [],
      ...values.map((value): [string, ClaimValue][] => [['a', value]]),
      ...values.map((value): [string, ClaimValue][] => [['a/b', value]]),
      [
        ['a', 'b'],
        ['c', 'd'],
      ],
      [['a', 'b/c/d']],
      [
        ['a/b', 'c'],
        ['d', 'e'],
      ],
    ];
    assert.equal(new Set(sets.map((set) => path(...set))).size, sets.length);
  });

  it('refuses what would be longer than a SPIFFE ID', () => {
    assert.throws(() => path(['a', '/'.repeat(700)]), { code: 'SPIFFE_ID_INVALID' });
  });
});
