import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { handMadeCa, handMadeCertificate, newKey } from '../test/fixtures/hand-made-certificate.ts';
import { parseCertificate } from './x509/certificate.ts';
import { decodePem } from './x509/pem.ts';
import { svidPem, x509Svid } from './x509-svid.ts';

const ca = handMadeCa();
const leaf = handMadeCertificate({ issuer: ca });
const invalid = { code: 'SVID_INVALID' };

describe('x509Svid', () => {
  it('reads what the leaf says', () => {
    const svid = x509Svid([leaf.der], leaf.key, 'main');
    const { serial, notBefore, notAfter } = parseCertificate(leaf.der);
    assert.equal(svid.id.toString(), 'spiffe://example.org/web');
    assert.equal(svid.hint, 'main');
    assert.deepEqual([svid.serial, svid.notBefore, svid.notAfter], [serial, notBefore, notAfter]);
  });

  it("refuses a key that is not the leaf's", () => {
    assert.throws(() => x509Svid([leaf.der], newKey()), invalid);
  });

  it('refuses a chain without a leaf, no SPIFFE ID, and two of them', () => {
    const two = handMadeCertificate({ uris: ['spiffe://example.org/a', 'spiffe://example.org/b'] });
    const none = handMadeCertificate({ uris: [] });
    const other = handMadeCertificate({ uris: ['https://example.org/a'] });
    assert.throws(() => x509Svid([], leaf.key), invalid);
    for (const { der, key } of [two, none, other])
      assert.throws(() => x509Svid([der], key), invalid);
    assert.throws(() => x509Svid([Buffer.from('hello')], leaf.key), invalid);
  });
});

describe('svidPem', () => {
  it('writes the chain leaf first, and the key in PKCS#8', () => {
    const { certificates, key } = svidPem(x509Svid([leaf.der, ca.der], leaf.key));
    assert.deepEqual(decodePem('CERTIFICATE', certificates), [leaf.der, ca.der]);
    assert.ok(createPrivateKey(key).equals(leaf.key));
  });
});
