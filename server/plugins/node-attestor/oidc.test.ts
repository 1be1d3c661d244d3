import assert from 'node:assert/strict';
import * as v from 'valibot';
import { parseTrustDomain } from '../../../identity/spiffe-id.ts';
import { OidcIssuer } from '../../../test/fakes/oidc-issuer.ts';
import { ManualClock } from '../../../test/fixtures/registry-world.ts';
import { SpentTokens } from '../../attestation/spent-tokens.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { openSqlite } from '../datastore/sqlite.ts';
import { oidcAttestor } from './oidc.ts';
import { oidcSchema } from './oidc-config.ts';

const GITHUB = {
  sub: 'repo:acme/shop:ref:refs/heads/main',
  repository: 'acme/shop',
  repository_id: '74',
  repository_owner_id: '65',
  ref: 'refs/heads/main',
  event_name: 'push',
};
const RULES = { repository_id: '74', ref: 'refs/heads/main' };
const AUDIENCE = 'writ.example.org';
const SIGNAL = new AbortController().signal;

describe('oidcAttestor', () => {
  let issuer: OidcIssuer;
  let store: Datastore;
  let clock: ManualClock;
  beforeEach(async () => {
    issuer = await OidcIssuer.start();
    issuer.claims = GITHUB;
    clock = new ManualClock();
    issuer.now = clock.now;
    store = await openSqlite(':memory:');
  });
  afterEach(async () => {
    await issuer[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
  });

  const attestor = (more: object = {}) => {
    const { issuers } = v.parse(oidcSchema, {
      issuers: [
        {
          ...{ name: 'ci', preset: 'github', issuer: issuer.url, ca_file: issuer.caFile },
          ...{ audience: AUDIENCE, claims: RULES, ...more },
        },
      ],
    });
    const trustDomain = parseTrustDomain('example.org');
    return oidcAttestor({ trustDomain, clock, tokens: new SpentTokens({ store }), issuers });
  };
  /** Attests with the token that `mint` makes of the audience in the challenge. */
  const attest = (
    mint: (audience: string) => Promise<string> | string,
    by = attestor(),
    hello: object = { provider: 'ci' },
  ) =>
    by.attest(Buffer.from(JSON.stringify(hello)), {
      signal: SIGNAL,
      challenge: async (bytes) => {
        const { audience } = JSON.parse(Buffer.from(bytes).toString('utf8'));
        return Buffer.from(await mint(audience));
      },
    });
  const minted =
    (claims: object = {}, options: object = {}) =>
    (audience: string) =>
      issuer.mint(audience, { ...claims }, options);
  const refused = (cause: RegExp) => (error: { code?: string; cause?: unknown }) => {
    assert.equal(error.code, 'ATTESTATION_DENIED');
    assert.match(String(error.cause), cause);
    return true;
  };

  it('takes a token that carries the nonce: an agent of its own, with the claims of the rules', async () => {
    const node = await attest(minted({ jti: 'a/1' }));
    assert.equal(
      String(node.agentId),
      'spiffe://example.org/spire/agent/oidc/ci/ref/refs.2Fheads.2Fmain/repository_id/74/jti/a.2F1',
    );
    assert.deepEqual(node.selectors, [
      'issuer:ci',
      'claim:ref:refs/heads/main',
      'claim:repository_id:74',
    ]);
    assert.equal(node.canReattest, false);
  });

  it('names an agent by its claims alone where it is told to, and lets it come back', async () => {
    const by = attestor({ agent_per: 'claims' });
    const [first, second] = [await attest(minted(), by), await attest(minted(), by)];
    assert.match(
      String(first.agentId),
      /\/oidc\/ci\/ref\/refs\.2Fheads\.2Fmain\/repository_id\/74$/,
    );
    assert.equal(String(first.agentId), String(second.agentId));
    assert.equal(first.canReattest, true);
  });

  for (const alg of ['ES256', 'ES384', 'ES512', 'PS256', 'RS512'])
    it(`takes ${alg}`, async () => {
      await issuer.addKey(alg);
      await attest(minted({}, { alg }));
    });

  it('S11: a nonce is of one exchange alone', async () => {
    const kept = await issuer.mint(`${AUDIENCE}#${'A'.repeat(43)}`);
    await assert.rejects(
      attest(() => kept),
      refused(/neither for this exchange nor/),
    );
  });

  it('S11: without the nonce a token is taken once, by several servers on one store too', async () => {
    const token = await issuer.mint(AUDIENCE);
    const results = await Promise.allSettled([
      attest(() => token),
      attest(() => token, attestor()),
    ]);
    assert.deepEqual(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    await assert.rejects(
      attest(() => token),
      refused(/used before/),
    );
    const node = await attest(async () => await issuer.mint(AUDIENCE));
    assert.equal(node.canReattest, false);
  });

  it('S11: without the nonce a token needs a jti and an iat of these two minutes', async () => {
    const seconds = Math.floor(clock.now().getTime() / 1000);
    const without = (claims: object) => attest(() => issuer.mint(AUDIENCE, { ...claims }));
    await without({ iat: seconds - 120 });
    await assert.rejects(without({ iat: seconds - 121 }), refused(/more than 120 s ago/));
    await assert.rejects(without({ iat: undefined }), refused(/when it was issued/));
    await assert.rejects(without({ jti: undefined }), refused(/needs a jti/));
    await assert.rejects(without({ jti: '' }), refused(/jti/));
    await assert.rejects(without({ jti: 'x'.repeat(257) }), refused(/jti/));
  });

  it('S11: without the nonce a token is for nobody else', async () => {
    await assert.rejects(
      attest(() => issuer.mint([AUDIENCE, 'other'])),
      refused(/configured audience alone/),
    );
    await assert.rejects(
      attest(() => issuer.mint('other')),
      refused(/configured audience/),
    );
  });

  it('does not spend a token that the rules refuse, and forgets spent ones when they are too old', async () => {
    await assert.rejects(attest(() => issuer.mint(AUDIENCE, { ref: 'refs/heads/dev' })));
    assert.equal((await store.all('select * from oidc_tokens')).length, 0);
    await attest(() => issuer.mint(AUDIENCE));
    const spent = new SpentTokens({ store });
    const drop = () => store.transaction((tx) => spent.dropExpired(tx, clock.now()));
    clock.advance(359_000);
    await drop();
    assert.equal((await store.all('select * from oidc_tokens')).length, 1);
    clock.advance(1000);
    await drop();
    assert.equal((await store.all('select * from oidc_tokens')).length, 0);
  });

  const unfit: [string, object, RegExp][] = [
    ['another repository', { repository_id: '75' }, /repository_id has a value/],
    ['a value of another type', { repository_id: 74 }, /repository_id is a number/],
    ['a branch that only begins alike', { ref: 'refs/heads/main2' }, /ref has a value/],
    ['a claim that is not there', { ref: undefined }, /ref is not there/],
    ['a claim that is a list', { ref: ['refs/heads/main'] }, /ref/],
    ['a pull request', { event_name: 'pull_request', ref: 'refs/pull/1/merge' }, /ref/],
    ['a pull request of the same branch', { event_name: 'pull_request_target' }, /pull or merge/],
    ['no event', { event_name: undefined }, /event_name is not there/],
    ['another issuer', { iss: 'https://evil.example' }, /another issuer/],
    ['no issuer', { iss: undefined }, /another issuer/],
    ['no expiry', { exp: undefined }, /no expiry/],
    ['an expiry that is no number', { exp: 'soon' }, /exp is no time/],
  ];
  for (const [what, claims, cause] of unfit)
    it(`refuses ${what}`, async () => {
      await assert.rejects(attest(minted(claims)), refused(cause));
    });

  it('takes a pull request that the rules name, of the repository that they name', async () => {
    const pull = { event_name: 'pull_request', ref: 'refs/pull/1/merge' };
    const by = attestor({ claims: { repository_id: '74', event_name: ['pull_request', 'push'] } });
    await attest(minted(pull), by);
    await attest(minted(), by);
    await assert.rejects(
      attest(minted({ event_name: 'pull_request_target' }), by),
      refused(/event_name has a value/),
    );
  });

  it('refuses merge requests of GitLab unless the rules name them', async () => {
    const gitlab = { project_id: '9', pipeline_source: 'push', ref: 'main', ref_type: 'branch' };
    issuer.claims = gitlab;
    const by = attestor({ preset: 'gitlab', claims: { project_id: '9' } });
    await attest(minted(), by);
    for (const claims of [
      { pipeline_source: 'merge_request_event' },
      { pipeline_source: 'external_pull_request_event' },
      { ref_path: 'refs/merge-requests/3/head' },
      { ref: 'refs/merge-requests/3/head' },
    ])
      await assert.rejects(attest(minted(claims), by), refused(/pull or merge request/));
    const rules = { project_id: '9', pipeline_source: ['merge_request_event', 'push'] };
    await attest(
      minted({ pipeline_source: 'merge_request_event' }),
      attestor({ preset: 'gitlab', claims: rules }),
    );
  });

  it('gives a minute to the clocks, and no more', async () => {
    const at = (offset: number) => Math.floor(clock.now().getTime() / 1000) + offset;
    await attest(minted({ exp: at(-59) }));
    await assert.rejects(attest(minted({ exp: at(-60) })), refused(/expired/));
    await attest(minted({ nbf: at(60), iat: at(60) }));
    await assert.rejects(attest(minted({ nbf: at(61) })), refused(/not yet valid/));
    await assert.rejects(attest(minted({ iat: at(61) })), refused(/not yet valid/));
  });

  it('refuses algorithms without a key pair, and keys that the issuer does not show', async () => {
    const unsigned = (alg: string) => (aud: string) => {
      const part = (json: object) => Buffer.from(JSON.stringify(json)).toString('base64url');
      return `${part({ alg, kid: 'k' })}.${part({ ...GITHUB, iss: issuer.url, aud, exp: 9e9 })}.`;
    };
    for (const alg of ['none', 'HS256'])
      await assert.rejects(attest(unsigned(alg)), refused(/algorithm not allowed/));
    const hidden = await issuer.addKey('RS256', false);
    await assert.rejects(attest(minted({}, { keyId: hidden })), refused(/unknown key id/));
    await assert.rejects(
      attest(minted({}, { header: { crit: ['b64'], b64: true } })),
      refused(/header other/),
    );
  });

  it('refuses a token with a changed claim, and one beyond 16 KiB', async () => {
    const tampered = async (audience: string) => {
      const [head, body = '', tail] = (await issuer.mint(audience)).split('.');
      const claims = JSON.parse(Buffer.from(body, 'base64url').toString('utf8'));
      const changed = JSON.stringify({ ...claims, sub: 'other' });
      return [head, Buffer.from(changed).toString('base64url'), tail].join('.');
    };
    await assert.rejects(attest(tampered), refused(/signature does not verify/));
    await assert.rejects(
      attest(() => 'a'.repeat(16_385)),
      refused(/longer than 16 KiB/),
    );
  });

  it('refuses a provider that is not configured, before it challenges', async () => {
    const none = () => assert.fail('challenged');
    await assert.rejects(attest(none, attestor(), { provider: 'toString' }), refused(/that name/));
    for (const hello of [{}, { provider: 7 }, { provider: 'ci', token: 't' }])
      await assert.rejects(attest(none, attestor(), hello), { code: 'INVALID_ARGUMENT' });
  });

  it('says which claim stands against a token, and never its text', async () => {
    const token = await issuer.mint('other');
    const error: unknown = await attest(() => token).catch((reason: unknown) => reason);
    const shown = JSON.stringify(error, Object.getOwnPropertyNames(error));
    for (const part of token.split('.')) assert.ok(!shown.includes(part));
  });
});
