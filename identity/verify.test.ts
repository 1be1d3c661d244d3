import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, randomInt, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  fingerprintOf,
  type HandMade,
  handMadeCa,
  type Parts,
  USAGE,
} from '../test/fixtures/hand-made-certificate.ts';
import { hasProgram, skipWithout } from '../test/fixtures/programs.ts';
import {
  bundlesOf,
  future,
  id,
  intermediateOf,
  leafOf,
  past,
  refuses,
  root,
  verify,
} from '../test/fixtures/svid-verdict.ts';
import { type SvidRefusal, svidRefusal, verifySvid } from './verify.ts';
import { parseCertificate } from './x509/certificate.ts';
import type { RevocationView } from './x509/crl-view.ts';
import { der, derOid, TAG } from './x509/der.ts';
import { derExtension, OID } from './x509/extensions.ts';
import { encodePem } from './x509/pem.ts';

describe('verifySvid', () => {
  it('takes a leaf that an authority of the bundle issued', () => {
    const leaf = leafOf({ dnsNames: ['web.example.org'] });
    const verified = verify([leaf]);
    const theirs = new X509Certificate(leaf.der);
    assert.equal(verified.id.toString(), id);
    assert.equal(verified.serial.toUpperCase(), theirs.serialNumber);
    assert.equal(verified.notAfter.getTime(), Date.parse(theirs.validTo));
    assert.equal(verified.notBefore.getTime(), Date.parse(theirs.validFrom));
    assert.equal(verified.fingerprint, fingerprintOf(leaf.der));
    assert.deepEqual(verified.chain, [leaf.der]);
  });

  it('takes a chain of intermediates, with or without the root at its end', () => {
    const one = intermediateOf(root, 'One');
    const two = intermediateOf(one, 'Two', { pathLength: 0 });
    const leaf = leafOf({ issuer: two });
    assert.equal(verify([leaf, two, one]).id.toString(), id);
    assert.equal(verify([leaf, two, one, root]).id.toString(), id);
  });

  describe('with revocation lists', () => {
    const one = intermediateOf(root, 'One');
    const serialOf = (certificate: HandMade) => parseCertificate(certificate.der).serial;
    const verifying = (chain: readonly HandMade[], revocation: RevocationView) =>
      verifySvid(
        chain.map((certificate) => certificate.der),
        bundlesOf(root),
        new Date(),
        revocation,
      );

    it('asks about each certificate below the authority, and the one that signed it', () => {
      const [above, below] = [leafOf(), leafOf({ issuer: one })];
      for (const [chain, pairs] of [
        [[above], [[above, root]]],
        [[above, root], [[above, root]]],
        [
          [below, one],
          [
            [below, one],
            [one, root],
          ],
        ],
      ] as const) {
        const asked: unknown[] = [];
        verifying(chain, (serial, { raw }) => {
          asked.push([serial, Buffer.from(raw)]);
          return 'good';
        });
        assert.deepEqual(
          asked,
          pairs.map(([subject, issuer]) => [serialOf(subject), Buffer.from(issuer.der)]),
        );
      }
    });

    for (const [status, reason] of [
      ['revoked', 'revoked by its authority'],
      ['held', 'held back by its authority'],
      ['outdated', 'revocation list of its authority is out of date'],
    ] as const)
      it(`refuses a leaf, and an authority between, that is ${status}`, () => {
        const leaf = leafOf({ issuer: one });
        for (const bad of [leaf, one])
          assert.throws(
            () => verifying([leaf, one], (serial) => (serial === serialOf(bad) ? status : 'good')),
            (error) => svidRefusal(error) === reason,
          );
      });
  });

  it('takes an intermediate that is an authority itself', () => {
    const one = intermediateOf(root, 'One');
    const leaf = leafOf({ issuer: one });
    assert.equal(verify([leaf], one).id.toString(), id);
    assert.equal(verify([leaf, one], one).id.toString(), id);
  });

  it('finds the right one of two authorities of the same name', () => {
    const twin = handMadeCa();
    assert.equal(verify([leafOf()], twin, root).id.toString(), id);
  });

  it('takes a leaf without extended key usage or basic constraints, as SPIFFE allows', () => {
    assert.equal(verify([leafOf({ extKeyUsage: null })]).id.toString(), id);
    assert.equal(verify([leafOf({ basicConstraints: null })]).id.toString(), id);
    assert.equal(verify([leafOf({ name: '', altNamesCritical: true })]).id.toString(), id);
  });

  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const ed25519 = generateKeyPairSync('ed25519').privateKey;
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey;
  const p521 = generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey;
  const algorithm = (hex: string, hash: string | null) => ({
    identifier: Buffer.from(hex, 'hex'),
    hash,
  });
  const trusted = {
    'RSA with SHA-256': {
      key: rsa,
      algorithm: algorithm('300d06092a864886f70d01010b0500', 'sha256'),
    },
    'RSA with SHA-512': {
      key: rsa,
      algorithm: algorithm('300d06092a864886f70d01010d0500', 'sha512'),
    },
    Ed25519: { key: ed25519, algorithm: algorithm('300506032b6570', null) },
    'P-384 with SHA-384': { key: p384, algorithm: algorithm('300a06082a8648ce3d040303', 'sha384') },
    'P-521 with SHA-512': { key: p521, algorithm: algorithm('300a06082a8648ce3d040304', 'sha512') },
  };
  for (const [what, parts] of Object.entries(trusted)) {
    it(`takes a chain signed by ${what}`, () => {
      const issuer = handMadeCa(parts);
      assert.equal(
        verify([leafOf({ issuer, algorithm: parts.algorithm })], issuer).id.toString(),
        id,
      );
    });
  }

  describe('refuses a leaf with', () => {
    const uri = (...uris: string[]): Parts => ({ uris });
    const cases: Record<string, [Parts, SvidRefusal]> = {
      'two URI names': [uri(id, 'spiffe://example.org/b'), 'leaf has not exactly one URI name'],
      'the same URI name twice': [uri(id, id), 'leaf has not exactly one URI name'],
      'no URI name': [{ uris: [], dnsNames: ['web'] }, 'leaf has not exactly one URI name'],
      'no names at all': [uri(), 'leaf has not exactly one URI name'],
      'another trust domain': [uri('spiffe://example.com/web'), 'unknown trust domain'],
      'an https URI': [uri('https://example.org/web'), 'leaf has no valid SPIFFE ID'],
      'a query': [uri(`${id}?a`), 'leaf has no valid SPIFFE ID'],
      'a fragment': [uri(`${id}#a`), 'leaf has no valid SPIFFE ID'],
      userinfo: [uri('spiffe://me@example.org/web'), 'leaf has no valid SPIFFE ID'],
      'a dot-dot segment': [uri('spiffe://example.org/a/../b'), 'leaf has no valid SPIFFE ID'],
      'an empty segment': [uri('spiffe://example.org//web'), 'leaf has no valid SPIFFE ID'],
      'a trailing slash': [uri(`${id}/`), 'leaf has no valid SPIFFE ID'],
      'an upper-case trust domain': [
        uri('spiffe://EXAMPLE.org/web'),
        'leaf has no valid SPIFFE ID',
      ],
      'a port': [uri('spiffe://example.org:1/web'), 'leaf has no valid SPIFFE ID'],
      'a percent escape': [uri('spiffe://example.org/%77eb'), 'leaf has no valid SPIFFE ID'],
      'a NUL in its name': [uri(`${id}\0.evil`), 'leaf has no valid SPIFFE ID'],
      'more than 2048 bytes': [uri(`${id}${'a'.repeat(2048)}`), 'leaf has no valid SPIFFE ID'],
      'no path': [uri('spiffe://example.org'), 'leaf has a SPIFFE ID without a path'],
      'CA:TRUE': [{ ca: true }, 'leaf is a CA'],
      keyCertSign: [
        { keyUsage: USAGE.digitalSignature | USAGE.keyCertSign },
        'leaf may sign certificates',
      ],
      cRLSign: [{ keyUsage: USAGE.digitalSignature | USAGE.cRLSign }, 'leaf may sign certificates'],
      'no digitalSignature': [{ keyUsage: USAGE.keyEncipherment }, 'leaf lacks digitalSignature'],
      'no key usage': [{ keyUsage: null }, 'leaf lacks a critical key usage'],
      'a key usage that is not critical': [
        { keyUsageCritical: false },
        'leaf lacks a critical key usage',
      ],
      'the purpose of a server alone': [
        { extKeyUsage: [OID.serverAuth] },
        'leaf lacks server or client purpose',
      ],
      'the purpose of a client alone': [
        { extKeyUsage: [OID.clientAuth] },
        'leaf lacks server or client purpose',
      ],
      'any purpose': [{ extKeyUsage: [OID.anyExtKeyUsage] }, 'leaf lacks server or client purpose'],
      'no subject and a name that is not critical': [
        { name: '' },
        'leaf without subject has a name that is not critical',
      ],
      'an end in the past': [past, 'certificate expired'],
      'a start in the future': [future, 'certificate not yet valid'],
      'an unknown critical extension': [
        { moreExtensions: [derExtension('1.2.3.4', true, der(TAG.null))] },
        'unknown critical extension',
      ],
      'name constraints': [
        { moreExtensions: [derExtension(OID.nameConstraints, false, der(TAG.sequence))] },
        'name constraints not supported',
      ],
      'a key of 1024 bits': [
        { key: generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey },
        'key not allowed',
      ],
      'a key of an unusual curve': [
        { key: generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey },
        'key not allowed',
      ],
      'ECDSA with SHA-1': [
        { algorithm: algorithm('300906072a8648ce3d0401', 'sha1') },
        'signature algorithm not allowed',
      ],
      'an algorithm with parameters where none belong': [
        { algorithm: algorithm('300c06082a8648ce3d0403020500', 'sha256') },
        'signature algorithm not allowed',
      ],
      'an algorithm of another kind of key': [
        { algorithm: algorithm('300d06092a864886f70d01010b0500', 'sha256') },
        'no trusted authority issued the chain',
      ],
      'an algorithm of another hash': [
        { algorithm: algorithm('300a06082a8648ce3d040303', 'sha256') },
        'no trusted authority issued the chain',
      ],
      'version 1': [{ version: Buffer.alloc(0) }, 'certificate malformed'],
    };
    for (const [what, [parts, reason]] of Object.entries(cases)) {
      it(what, () => refuses([leafOf(parts)], reason));
    }

    it('RSA-PSS, which is not in the list', () => {
      const issuer = handMadeCa({
        key: rsa,
        algorithm: algorithm('300d06092a864886f70d01010b0500', 'sha256'),
      });
      const pss =
        '304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120';
      const leaf = leafOf({ issuer, algorithm: algorithm(pss, 'sha256') });
      refuses([leaf], 'signature algorithm not allowed', issuer);
    });
  });

  it('judges validity to the second, both ends included', () => {
    const longLived = handMadeCa({
      notBefore: new Date('2000-01-01T00:00:00Z'),
      notAfter: new Date('2049-01-01T00:00:00Z'),
    });
    const leaf = leafOf({ issuer: longLived });
    const { notBefore, notAfter } = verify([leaf], longLived);
    const at = (time: number) => () => verifySvid([leaf.der], bundlesOf(longLived), new Date(time));
    at(notBefore.getTime())();
    at(notAfter.getTime())();
    assert.throws(at(notBefore.getTime() - 1), { code: 'SVID_INVALID' });
    assert.throws(at(notAfter.getTime() + 1), { code: 'SVID_INVALID' });
  });

  it('survives 1000 mutations of a chain, and none verifies as another identity', () => {
    const one = intermediateOf(root, 'One');
    const good = [leafOf({ issuer: one }).der, one.der];
    for (let round = 0; round < 1000; round++) {
      const chain = good.map((bytes) => Buffer.from(bytes));
      const target = chain[randomInt(2)] ?? Buffer.alloc(0);
      for (let change = randomInt(1, 4); change > 0; change--) {
        target[randomInt(target.length)] = randomInt(256);
      }
      let verified: string | undefined;
      try {
        verified = verifySvid(chain, bundlesOf(root), new Date()).id.toString();
      } catch (error) {
        assert.notEqual(svidRefusal(error), undefined, String(error));
        continue;
      }
      assert.equal(verified, id);
      assert.deepEqual(chain, good, 'a changed chain verified');
    }
  });

  it('agrees with openssl verify on chains that are right, and on those that are wrong', function () {
    if (!hasProgram('openssl')) skipWithout(this, 'openssl');
    const one = intermediateOf(root, 'One', { pathLength: 0 });
    const below = intermediateOf(one, 'Two');
    const expired = intermediateOf(root, 'One', past);
    const noCa = intermediateOf(root, 'One', { ca: false });
    const chains: [HandMade[], boolean][] = [
      [[leafOf()], true],
      [[leafOf({ issuer: one }), one], true],
      [[leafOf({ issuer: below }), below, one], false],
      [[leafOf({ issuer: expired }), expired], false],
      [[leafOf({ issuer: noCa }), noCa], false],
      [[leafOf(past)], false],
      [[leafOf({ moreExtensions: [derExtension('1.2.3', true, derOid('1.2'))] })], false],
    ];
    for (const [chain, right] of chains) {
      assert.equal(opensslAccepts(chain), right);
      if (right) assert.equal(verify(chain).id.toString(), id);
      else assert.throws(() => verify(chain), { code: 'SVID_INVALID' });
    }
  });

  function opensslAccepts([leaf, ...more]: HandMade[]): boolean {
    const dir = mkdtempSync(join(tmpdir(), 'writ-verify-'));
    const file = (name: string, certificates: HandMade[]) => {
      const pem = certificates.map((one) => encodePem('CERTIFICATE', one.der)).join('');
      writeFileSync(join(dir, name), pem);
      return join(dir, name);
    };
    try {
      const end = file('leaf.pem', leaf === undefined ? [] : [leaf]);
      const untrusted = more.length === 0 ? [] : ['-untrusted', file('more.pem', more)];
      const args = ['verify', '-CAfile', file('root.pem', [root]), ...untrusted, end];
      execFileSync('openssl', args, { stdio: 'pipe' });
      return true;
    } catch {
      return false;
    } finally {
      rmSync(dir, { recursive: true });
    }
  }
});

describe('svidRefusal', () => {
  it('knows its own faults alone', () => {
    assert.equal(svidRefusal(new Error('x')), undefined);
    assert.equal(svidRefusal(undefined), undefined);
  });
});
