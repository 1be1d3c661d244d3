import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import {
  type HandMade,
  handMadeCa,
  handMadeCertificate,
  newKey,
  type Parts,
  USAGE,
} from '../test/fixtures/hand-made-certificate.ts';
import {
  future,
  id,
  intermediateOf,
  leafOf,
  past,
  refuses,
  root,
  trustDomain,
  verify,
} from '../test/fixtures/svid-verdict.ts';
import { makeBundle } from './bundle.ts';
import { parseTrustDomain, type TrustDomain } from './spiffe-id.ts';
import { type SvidRefusal, svidRefusal, verifySvid } from './verify.ts';
import { der, TAG } from './x509/der.ts';
import { derExtension, OID } from './x509/extensions.ts';

describe('verifySvid on chains', () => {
  it('does not count a self-issued certificate against a path length, as in a rollover of keys', () => {
    const narrow = handMadeCa({ pathLength: 1 });
    const rollover = intermediateOf(narrow, 'Root');
    const one = intermediateOf(rollover, 'One');
    const chain = [leafOf({ issuer: one }), one, rollover];
    assert.equal(verify(chain, narrow).id.toString(), id);
  });

  describe('accepts an authority of the bundle', () => {
    const authorities: Record<string, Parts> = {
      'with the SPIFFE ID of another trust domain, as the root above many': {
        uris: ['spiffe://example.com'],
      },
      'that names no SPIFFE ID': { uris: [] },
      'without a key usage, as openssl makes them': { keyUsage: null },
      'with constraints that are not critical': { basicConstraintsCritical: false },
      'whose validity begins in the year 1': { notBefore: new Date('0001-01-01T00:00:00Z') },
    };
    for (const [what, parts] of Object.entries(authorities)) {
      it(what, () => {
        const issuer = handMadeCa(parts);
        assert.equal(verify([leafOf({ issuer })], issuer).id.toString(), id);
      });
    }
  });

  describe('refuses a chain with', () => {
    const one = intermediateOf(root, 'One');
    const two = intermediateOf(one, 'Two');
    const leaf = leafOf({ issuer: two });

    it('no certificate', () => refuses([], 'no certificate'));

    it('no authority behind it', () => {
      refuses([leafOf()], 'no trusted authority issued the chain', handMadeCa({ name: 'Other' }));
      refuses([leafOf()], 'no trusted authority issued the chain', handMadeCa());
    });

    it('an empty bundle', () => {
      const none = makeBundle({ trustDomain, x509: [] });
      assert.throws(
        () => verifySvid([leafOf().der], () => none, new Date()),
        (error) => svidRefusal(error) === 'no trusted authority issued the chain',
      );
    });

    it('the wrong order', () => {
      refuses([leaf, one, two], 'certificate not issued by the next');
      refuses([two, leaf, one], 'leaf has a SPIFFE ID without a path');
    });

    it('a missing intermediate', () => {
      refuses([leaf, one], 'certificate not issued by the next');
      refuses([leaf, two], 'no trusted authority issued the chain');
      refuses([leaf], 'no trusted authority issued the chain');
    });

    it('certificates beyond the authority', () => {
      refuses([leafOf(), one], 'certificates beyond the trusted authority');
      refuses([leafOf(), root, root], 'certificates beyond the trusted authority');
      refuses([leaf, two, one, handMadeCa()], 'certificates beyond the trusted authority');
    });

    it('more than 8 certificates', () => {
      refuses(Array<HandMade>(9).fill(leaf), 'chain too long');
    });

    it('a certificate of more than 64 KiB', () => {
      const huge = { ...leaf, der: Buffer.alloc(65_537) };
      refuses([huge], 'certificate too large');
    });

    it('bytes after a certificate', () => {
      const trailing = { ...leafOf(), der: Buffer.concat([leafOf().der, Buffer.of(0)]) };
      refuses([trailing], 'certificate malformed');
    });

    it('an exceeded path length, of an intermediate or of the root', () => {
      const narrow = intermediateOf(root, 'One', { pathLength: 0 });
      const below = intermediateOf(narrow, 'Two');
      refuses([leafOf({ issuer: below }), below, narrow], 'path length exceeded');
      const narrowRoot = handMadeCa({ pathLength: 0 });
      const middle = intermediateOf(narrowRoot, 'One');
      refuses([leafOf({ issuer: middle }), middle], 'path length exceeded', narrowRoot);
    });

    const intermediates: Record<string, [Parts, SvidRefusal]> = {
      'without the CA bit': [{ ca: false }, 'issuer is not a CA'],
      'without basic constraints': [{ basicConstraints: null }, 'issuer is not a CA'],
      'whose CA bit is not critical': [{ basicConstraintsCritical: false }, 'issuer is not a CA'],
      'without keyCertSign': [{ keyUsage: USAGE.cRLSign }, 'issuer lacks keyCertSign'],
      'without key usage': [{ keyUsage: null }, 'issuer lacks keyCertSign'],
      'whose key usage is not critical': [{ keyUsageCritical: false }, 'issuer lacks keyCertSign'],
      'for servers alone': [
        { extKeyUsage: [OID.serverAuth] },
        'issuer lacks server or client purpose',
      ],
      'that has expired': [past, 'certificate expired'],
      'to come': [future, 'certificate not yet valid'],
      'with an unknown critical extension': [
        { moreExtensions: [derExtension('1.2.3.4', true, der(TAG.null))] },
        'unknown critical extension',
      ],
      'with name constraints': [
        {
          moreExtensions: [
            derExtension(
              OID.nameConstraints,
              true,
              der(
                TAG.sequence,
                der(0xa0, der(TAG.sequence, der(0x86, Buffer.from('example.org')))),
              ),
            ),
          ],
        },
        'name constraints not supported',
      ],
      'with policy constraints that are critical': [
        {
          moreExtensions: [
            derExtension('2.5.29.36', true, der(TAG.sequence, der(0x80, Buffer.of(0)))),
          ],
        },
        'unknown critical extension',
      ],
      'with the ID of a workload': [
        { uris: ['spiffe://example.org/web'] },
        'issuer has the SPIFFE ID of a workload or another trust domain',
      ],
      'of another trust domain': [
        { uris: ['spiffe://example.com'] },
        'issuer has the SPIFFE ID of a workload or another trust domain',
      ],
      'with a weak key': [
        { key: generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey },
        'key not allowed',
      ],
    };
    for (const [what, [parts, reason]] of Object.entries(intermediates)) {
      it(`an intermediate ${what}`, () => {
        const middle = intermediateOf(root, 'One', parts);
        refuses([leafOf({ issuer: middle }), middle], reason);
      });
    }

    const roots: Record<string, [Parts, SvidRefusal]> = {
      'that is no CA': [{ ca: false }, 'issuer is not a CA'],
      'without keyCertSign': [{ keyUsage: USAGE.cRLSign }, 'issuer lacks keyCertSign'],
      'that has expired': [past, 'certificate expired'],
      'with the ID of a workload': [
        { uris: ['spiffe://example.com/web'] },
        'issuer has the SPIFFE ID of a workload or another trust domain',
      ],
    };
    for (const [what, [parts, reason]] of Object.entries(roots)) {
      it(`an authority ${what}`, () => {
        const issuer = handMadeCa(parts);
        refuses([leafOf({ issuer })], reason, issuer);
      });
    }

    it('an intermediate of the right name and another key', () => {
      const impostor = intermediateOf(root, 'Two');
      refuses([leaf, impostor, one], 'certificate not issued by the next');
      const noKeyIds = { ...two.parts, key: newKey(), issuer: one };
      refuses([leaf, handMadeCa(noKeyIds), one], 'certificate not issued by the next');
    });

    it('an intermediate that borrows the key id of the issuer', () => {
      const borrowed = der(TAG.octetString, Buffer.alloc(20, 7));
      const mine = handMadeCa({ issuer: root, name: 'One' });
      const leaf = handMadeCertificate({ issuer: mine });
      const [before, after] = [Buffer.from(subjectKeyIdIn(mine)), borrowed.subarray(2)];
      const forged = { ...mine, der: replaced(mine.der, before, after) };
      const victim = { ...leaf, der: replaced(leaf.der, before, after) };
      refuses([victim, forged], 'signature does not verify');
    });

    it('a self-signed leaf, even if the bundle holds it', () => {
      const selfSigned = handMadeCertificate({});
      refuses([selfSigned], 'no trusted authority issued the chain');
      refuses([selfSigned], 'issuer is not a CA', selfSigned);
    });

    it('a leaf issued by a leaf', () => {
      const first = leafOf({ name: 'first' });
      refuses([leafOf({ issuer: first }), first], 'issuer is not a CA');
    });

    it('the root itself as leaf', () => {
      refuses([root], 'leaf has a SPIFFE ID without a path');
    });

    it('a leaf of a trust domain whose bundle is another one', () => {
      const wrong = makeBundle({ trustDomain: parseTrustDomain('example.com'), x509: [root.der] });
      assert.throws(
        () => verifySvid([leafOf().der], () => wrong, new Date()),
        (error) => svidRefusal(error) === 'unknown trust domain',
      );
    });

    it('a leaf of one trust domain under the root of another', () => {
      const foreign = handMadeCa({ uris: ['spiffe://example.com'], name: 'Foreign' });
      const forged = leafOf({ issuer: foreign });
      const bundles = (name: TrustDomain) =>
        name === trustDomain
          ? makeBundle({ trustDomain, x509: [root.der] })
          : makeBundle({ trustDomain: name, x509: [foreign.der] });
      assert.throws(
        () => verifySvid([forged.der], bundles, new Date()),
        (error) => svidRefusal(error) === 'no trusted authority issued the chain',
      );
    });
  });
});

function subjectKeyIdIn({ der: bytes }: HandMade): Uint8Array {
  const at = bytes.indexOf(Buffer.from('0603551d0e04160414', 'hex')) + 9;
  return bytes.subarray(at, at + 20);
}

function replaced(bytes: Buffer, before: Uint8Array, after: Uint8Array): Buffer {
  const copy = Buffer.from(bytes);
  for (let at = copy.indexOf(before); at >= 0; at = copy.indexOf(before, at + 1))
    copy.set(after, at);
  return copy;
}
