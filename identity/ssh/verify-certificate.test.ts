import assert from 'node:assert/strict';
import {
  handMadeSshCertificate,
  newSshKey,
  optionValue,
  type SshOption,
  type SshParts,
} from '../../test/fixtures/hand-made-ssh-certificate.ts';
import { parseTrustDomain } from '../spiffe-id.ts';
import { parseSshCertificate } from './certificate.ts';
import { encodePublicKey } from './public-key.ts';
import {
  type CertificateRule,
  verifySshCertificate,
  workloadIdentity,
} from './verify-certificate.ts';

const AUTHORITY = newSshKey();
const WEB = 'spiffe://example.org/web';
const NOW = new Date('2026-01-02T03:04:05Z');
const SECONDS = BigInt(NOW.getTime() / 1000);

const RULE: CertificateRule = {
  type: 'user',
  authorities: [encodePublicKey(newSshKey()), encodePublicKey(AUTHORITY)],
  now: NOW,
};

const made = (parts: SshParts = {}) =>
  handMadeSshCertificate({
    authority: AUTHORITY,
    validAfter: SECONDS - 60n,
    validBefore: SECONDS + 60n,
    ...parts,
  });

const option = (name: string, value = ''): SshOption[] => [
  [name, value === '' ? Buffer.alloc(0) : optionValue(value)],
];

const from = (list: string): SshParts => ({ criticalOptions: option('source-address', list) });

describe('verifySshCertificate', () => {
  it('gives what a good certificate says', () => {
    const { keyId, type } = verifySshCertificate(made(), RULE);
    assert.deepEqual({ keyId, type }, { keyId: WEB, type: 'user' });
  });

  it('asks for a principal where the rule names one', () => {
    const blob = made({ principals: ['a', 'b'] });
    assert.ok(verifySshCertificate(blob, { ...RULE, principal: 'b' }));
    assert.ok(verifySshCertificate(made({ type: 2 }), { ...RULE, type: 'host', principal: WEB }));
  });

  it('takes a certificate from the second it begins to the one before its end', () => {
    const at = (ms: number) => ({ ...RULE, now: new Date(NOW.getTime() + ms) });
    assert.ok(verifySshCertificate(made(), at(-60_000)));
    assert.ok(verifySshCertificate(made(), at(59_999)));
    const refused = (ms: number, message: RegExp) =>
      assert.throws(() => verifySshCertificate(made(), at(ms)), { code: 'SSH_INVALID', message });
    refused(-60_001, /not valid yet/);
    refused(60_000, /expired/);
  });

  it('takes a source address that fits, and extensions that it does not know', () => {
    const parts = { ...from('10.0.0.0/8,::1'), extensions: option('note@example.org', 'x') };
    assert.ok(verifySshCertificate(made(parts), { ...RULE, sourceAddress: '::ffff:10.1.2.3' }));
  });

  const refused: Record<string, readonly [SshParts, Partial<CertificateRule>, RegExp]> = {
    'a rogue authority': [{ authority: newSshKey() }, {}, /authority not trusted/],
    'any authority where none is trusted': [{}, { authorities: [] }, /authority not trusted/],
    "a trusted authority's key without its signature": [
      { authority: newSshKey(), authorityBlob: encodePublicKey(AUTHORITY) },
      {},
      /does not verify/,
    ],
    'a certificate of a host as one of a user': [{ type: 2 }, {}, /of a host where one of a user/],
    'a certificate of a user as one of a host': [
      {},
      { type: 'host' },
      /of a user where one of a host/,
    ],
    'a clock that tells no time': [{}, { now: new Date(Number.NaN) }, /not valid yet/],
    'no principals': [{ principals: [] }, {}, /no principals/],
    'no principals where one is asked for': [
      { principals: [] },
      { principal: WEB },
      /no principals/,
    ],
    'another principal': [{}, { principal: 'deploy' }, /not for this principal/],
    'a principal of another case': [{}, { principal: WEB.toUpperCase() }, /not for this principal/],
    'a principal that only begins alike': [{}, { principal: `${WEB}/x` }, /not for this principal/],
    'force-command': [
      { criticalOptions: option('force-command', 'ls') },
      {},
      /critical option force-command not allowed/,
    ],
    'verify-required, which sshd overlooks': [
      { criticalOptions: option('verify-required') },
      {},
      /critical option verify-required not allowed/,
    ],
    'an unknown critical option': [
      { criticalOptions: option('x@example.org') },
      {},
      /critical option x@example.org not allowed/,
    ],
    'an unknown critical option beside a good one': [
      { criticalOptions: [...option('source-address', '10.1.2.3'), ...option('z')] },
      { sourceAddress: '10.1.2.3' },
      /critical option z not allowed/,
    ],
    'another source address': [from('10.0.0.0/8'), { sourceAddress: '11.0.0.1' }, /source address/],
    'a source address where none is known': [from('0.0.0.0/0'), {}, /not for this source address/],
    'a malformed source address': [
      from('10.1.2.3/8'),
      { sourceAddress: '10.1.2.3' },
      /malformed source-address/,
    ],
    'a source address that is a flag': [
      { criticalOptions: option('source-address') },
      { sourceAddress: '10.1.2.3' },
      /malformed source-address/,
    ],
    "a critical option in a host's": [
      { type: 2, ...from('10.1.2.3') },
      { type: 'host', sourceAddress: '10.1.2.3' },
      /critical option source-address not allowed/,
    ],
    'what does not parse': [{ trailing: Buffer.of(0) }, {}, /bytes after the last value/],
  };
  for (const [what, [parts, rule, message]] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      const verify = () => verifySshCertificate(made(parts), { ...RULE, ...rule });
      assert.throws(verify, { code: 'SSH_INVALID', message });
    });
  }

  it('refuses a plain key', () => {
    const verify = () => verifySshCertificate(encodePublicKey(AUTHORITY), RULE);
    assert.throws(verify, { code: 'SSH_INVALID', message: /a plain key/ });
  });
});

describe('workloadIdentity', () => {
  const domain = parseTrustDomain('example.org');
  const identity = (parts: SshParts) => workloadIdentity(parseSshCertificate(made(parts)), domain);
  const named = (id: string) => identity({ keyId: id, principals: [id] });

  it('is the SPIFFE ID that is key ID and only principal', () => {
    assert.equal(named('spiffe://example.org/ns/web').toString(), 'spiffe://example.org/ns/web');
  });

  const refused: Record<string, readonly [() => unknown, RegExp]> = {
    'no principal': [() => identity({ principals: [] }), /not its only principal/],
    'a second principal': [() => identity({ principals: [WEB, 'root'] }), /not its only principal/],
    'another key ID': [() => identity({ keyId: `${WEB}2` }), /not its only principal/],
    'no key ID': [() => identity({ keyId: '' }), /not its only principal/],
    'what is no SPIFFE ID': [() => named('deploy'), /no SPIFFE ID/],
    'a SPIFFE ID with a query': [() => named(`${WEB}?x`), /no SPIFFE ID/],
    'another trust domain': [() => named('spiffe://example.com/web'), /another trust domain/],
    'a longer trust domain': [() => named('spiffe://example.org.x/web'), /another trust domain/],
    'the trust domain itself': [() => named('spiffe://example.org'), /not of a workload/],
    'an agent': [() => named('spiffe://example.org/spire/agent/x'), /not of a workload/],
    'a gateway': [() => named('spiffe://example.org/writ/gateway/main'), /not of a workload/],
  };
  for (const [what, [read, message]] of Object.entries(refused)) {
    it(`refuses ${what}`, () => assert.throws(read, { code: 'SSH_INVALID', message }));
  }
});
