import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { OidcIssuer } from '../../../test/fakes/oidc-issuer.ts';
import { withoutEnvironmentChecks } from '../../../test/fixtures/environment-checks.ts';
import { ManualClock } from '../../../test/fixtures/registry-world.ts';
import { IssuerKeys, jwksByDiscovery, jwksFromUrl, parseJwks } from './jwks.ts';

const rsa = (bits: number) =>
  generateKeyPairSync('rsa', { modulusLength: bits }).publicKey.export({ format: 'jwk' });
const ec = (namedCurve: string) =>
  generateKeyPairSync('ec', { namedCurve }).publicKey.export({ format: 'jwk' });

describe('parseJwks', () => {
  it('takes the keys that can sign tokens and leaves the others out', () => {
    const keys = [
      { ...rsa(2048), kid: 'a', use: 'sig', alg: 'RS256' },
      { ...ec('P-256'), kid: 'b' },
      { ...ec('P-256'), kid: 'encrypts', use: 'enc' },
      { ...ec('P-256'), kid: 'agrees', alg: 'ECDH-ES' },
      { ...ec('secp256k1'), kid: 'curve' },
      { ...rsa(1024), kid: 'weak' },
      { ...ec('P-256') },
      { kty: 'oct', k: 'c2VjcmV0', kid: 'shared' },
      { kty: 'RSA', n: 7, e: 'AQAB', kid: 'malformed' },
      'garbage',
      null,
    ];
    assert.deepEqual(
      parseJwks({ keys }).map(({ keyId, alg }) => [keyId, alg]),
      [
        ['a', 'RS256'],
        ['b', undefined],
      ],
    );
  });

  it('refuses what is no set, and more than 100 keys', () => {
    for (const json of [undefined, null, [], {}, { keys: {} }])
      assert.throws(() => parseJwks(json), /no JSON Web Key Set/);
    const keys = Array.from({ length: 101 }, () => ({}));
    assert.throws(() => parseJwks({ keys }), /more than 100/);
  });
});

describe('IssuerKeys', () => {
  const set = (...ids: string[]) => ({
    keys: ids.map((kid) => ({ ...ec('P-256'), kid })),
  });
  const world = (...answers: (object | Error)[]) => {
    const clock = new ManualClock();
    let asked = 0;
    const source = async () => {
      const answer = answers[Math.min(asked++, answers.length - 1)];
      if (answer instanceof Error) throw answer;
      return answer;
    };
    const keys = new IssuerKeys({ source, clock });
    const find = async (id: string) => (await keys.find(id, 'ES256')).map(({ keyId }) => keyId);
    return { clock, find, asked: () => asked };
  };

  it('asks once for many tokens', async () => {
    const { find, asked } = world(set('a'));
    assert.deepEqual(await Promise.all(['a', 'a', 'a'].map(find)), [['a'], ['a'], ['a']]);
    assert.equal(asked(), 1);
  });

  it('looks again for a key that is not known, at most once a minute', async () => {
    const { clock, find, asked } = world(set('a'), set('a', 'b'));
    await find('a');
    for (let tries = 0; tries < 5; tries += 1) assert.deepEqual(await find('b'), []);
    assert.equal(asked(), 1);
    clock.advance(60_000);
    assert.deepEqual(await find('b'), ['b']);
    for (let tries = 0; tries < 5; tries += 1) await find('c');
    assert.equal(asked(), 2);
  });

  it('keeps no key beyond an hour without asking', async () => {
    const { clock, find } = world(set('a'), set('b'));
    await find('a');
    clock.advance(60 * 60 * 1000);
    assert.deepEqual(await find('a'), []);
  });

  it('is unavailable without keys, and tries again after a while', async () => {
    const { clock, find, asked } = world(new Error('down'), set('a'));
    await assert.rejects(find('a'), { code: 'UNAVAILABLE' });
    await assert.rejects(find('a'), { code: 'UNAVAILABLE' });
    assert.equal(asked(), 1);
    clock.advance(5000);
    assert.deepEqual(await find('a'), ['a']);
  });

  it('takes no key for an algorithm that is not its own', async () => {
    const source = async () => ({ keys: [{ ...rsa(2048), kid: 'a', alg: 'PS256' }] });
    const keys = new IssuerKeys({ source, clock: new ManualClock() });
    assert.equal((await keys.find('a', 'RS256')).length, 0);
    assert.equal((await keys.find('a', 'PS256')).length, 1);
  });
});

describe('jwksByDiscovery', () => {
  let issuer: OidcIssuer;
  beforeEach(async () => {
    issuer = await OidcIssuer.start();
  });
  afterEach(() => issuer[Symbol.asyncDispose]());
  const metadata = (json: object) => {
    issuer.override = (response) => response.end(JSON.stringify(json));
  };

  it('follows the metadata to the keys', async () => {
    assert.equal(parseJwks(await jwksByDiscovery(issuer.url, issuer.caFile)()).length, 1);
    assert.deepEqual(issuer.asked, ['/.well-known/openid-configuration', '/keys']);
  });

  const wrong: [string, () => object, RegExp][] = [
    ['of another issuer', () => ({ issuer: 'https://x', jwks_uri: issuer.url }), /another issuer/],
    ['without keys', () => ({ issuer: issuer.url }), /names no keys/],
    [
      'with keys over http',
      () => ({ issuer: issuer.url, jwks_uri: 'http://127.0.0.1/keys' }),
      /not offered over https/,
    ],
    ['that is no object', () => [], /no metadata/],
  ];
  for (const [what, json, message] of wrong)
    it(`refuses metadata ${what}`, async () => {
      metadata(json());
      await assert.rejects(jwksByDiscovery(issuer.url, issuer.caFile)(), message);
    });

  it('asks no server that the given authority does not vouch for', async () => {
    const refused = () =>
      assert.rejects(jwksByDiscovery(issuer.url, undefined)(), { code: 'UNAVAILABLE' });
    await refused();
    await withoutEnvironmentChecks(refused);
    assert.deepEqual(issuer.asked, []);
  });

  it('follows no redirect, and reads no more than 1 MiB', async () => {
    const read = jwksFromUrl(new URL(`${issuer.url}/keys`), issuer.caFile);
    issuer.override = (response) => response.writeHead(302, { location: '/elsewhere' }).end();
    await assert.rejects(read(), /status 302/);
    issuer.override = (response) => response.end(Buffer.alloc(1024 * 1024 + 1, ' '));
    await assert.rejects(read(), { code: 'UNAVAILABLE' });
    issuer.override = (response) => response.writeHead(500).end();
    await assert.rejects(read(), /status 500/);
  });
});
