import 'reflect-metadata';
import assert from 'node:assert/strict';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { parseTrustDomain } from '../spiffe-id.ts';
import { createSelfSignedCa } from './ca.ts';
import { isCritical, parseCertificate } from './certificate.ts';
import { OID } from './extensions.ts';
import type { KeyType } from './key.ts';

const trustDomain = parseTrustDomain('example.org');

describe('createSelfSignedCa', () => {
  for (const keyType of ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048'] as KeyType[]) {
    it(`makes a root with ${keyType} that signs itself`, async () => {
      const now = new Date();
      const notAfter = new Date(now.getTime() + 86_400_000);
      const ca = await createSelfSignedCa({ trustDomain, keyType, notAfter, now });
      const theirs = new X509Certificate(ca.certificate);
      assert.ok(theirs.verify(createPublicKey(ca.privateKey)));
      assert.ok(theirs.checkPrivateKey(ca.privateKey));
      assert.ok(theirs.checkIssued(theirs));

      const certificate = parseCertificate(ca.certificate);
      assert.deepEqual(certificate.uriSans, ['spiffe://example.org']);
      assert.deepEqual([...(certificate.keyUsage ?? [])], ['keyCertSign', 'cRLSign']);
      assert.deepEqual(certificate.basicConstraints, { ca: true, pathLength: undefined });
      assert.ok(isCritical(certificate, OID.keyUsage));
      assert.ok(isCritical(certificate, OID.basicConstraints));
      const keyId = Buffer.from(certificate.subjectKeyId ?? []).toString('hex');
      assert.equal(keyId, ca.subjectKeyId);
      assert.equal(theirs.subject, `C=US\nO=SPIFFE\nserialNumber=${certificate.serial}`);
    });
  }

  it('writes an end after 2049 as its own reader wants it', async () => {
    const notAfter = new Date('2060-01-01T00:00:00Z');
    const ca = await createSelfSignedCa({
      trustDomain,
      keyType: 'ec-p256',
      notAfter,
      now: new Date(),
    });
    assert.deepEqual(parseCertificate(ca.certificate).notAfter, notAfter);
  });
});
