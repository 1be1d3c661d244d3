import 'reflect-metadata';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { X509Certificate as PeculiarCertificate } from '@peculiar/x509';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { parseTrustDomain, SpiffeId } from '../spiffe-id.ts';
import { createSelfSignedCa, type SelfSignedCa } from './ca.ts';
import { isCritical, parseCertificate } from './certificate.ts';
import { OID } from './extensions.ts';
import { generateKey, type KeyType, spkiOf, subjectKeyIdOf } from './key.ts';
import { isDnsName, type LeafRequest, leafSigner } from './leaf.ts';
import { encodePem } from './pem.ts';

const trustDomain = parseTrustDomain('example.org');
const now = new Date();
const inMs = (milliseconds: number) => new Date(now.getTime() + milliseconds);
const makeCa = (keyType: KeyType, notAfter = inMs(86_400_000)) =>
  createSelfSignedCa({ trustDomain, keyType, notAfter, now });

describe('leafSigner', () => {
  let ca: SelfSignedCa;
  let request: LeafRequest;
  before(async () => {
    ca = await makeCa('ec-p256');
    request = {
      spki: spkiOf(await generateKey('ec-p256')),
      uri: SpiffeId.fromSegments(trustDomain, 'ns', 'web'),
      dnsNames: ['web.example.org', '*.web.example.org'],
      ipAddresses: ['127.0.0.1', '::1', '2001:db8::1:0', '::ffff:1.2.3.4'],
      notAfter: inMs(3_600_000),
      now,
    };
  });

  for (const keyType of ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048'] as KeyType[]) {
    it(`signs with ${keyType} what node:crypto and @peculiar/x509 verify`, async () => {
      const authority = await makeCa(keyType);
      const leaf = leafSigner(authority).sign(request);
      const issuer = new X509Certificate(authority.certificate);
      const theirs = new X509Certificate(leaf.der);
      assert.ok(theirs.verify(issuer.publicKey));
      assert.ok(theirs.checkIssued(issuer));
      const peculiar = new PeculiarCertificate(leaf.der);
      const key = await new PeculiarCertificate(authority.certificate).publicKey.export();
      assert.ok(await peculiar.verify({ publicKey: key, signatureOnly: true }));
    });

    it(`signs with ${keyType} what openssl verifies for server and client`, async function () {
      if (!hasProgram('openssl')) skipWithout(this, 'openssl');
      const authority = await makeCa(keyType);
      const leaf = leafSigner(authority).sign(request);
      const dir = mkdtempSync(join(tmpdir(), 'writ-leaf-'));
      try {
        const file = (name: string, der: Uint8Array) => {
          writeFileSync(join(dir, name), encodePem('CERTIFICATE', der));
          return join(dir, name);
        };
        const root = file('root.pem', authority.certificate);
        const end = file('leaf.pem', leaf.der);
        for (const purpose of ['sslserver', 'sslclient']) {
          const strict = ['verify', '-x509_strict', '-check_ss_sig', '-purpose', purpose];
          const said = execFileSync('openssl', [...strict, '-CAfile', root, end], {
            stdio: 'pipe',
          });
          assert.match(said.toString(), /: OK/);
        }
      } finally {
        rmSync(dir, { recursive: true });
      }
    });
  }

  it("keeps to SPIRE's profile", () => {
    const leaf = leafSigner(ca).sign(request);
    const certificate = parseCertificate(leaf.der);
    const usages = ['digitalSignature', 'keyEncipherment', 'keyAgreement'];
    assert.deepEqual([...(certificate.keyUsage ?? [])], usages);
    assert.deepEqual(certificate.extKeyUsage, [OID.serverAuth, OID.clientAuth]);
    assert.deepEqual(certificate.basicConstraints, { ca: false, pathLength: undefined });
    assert.ok(isCritical(certificate, OID.keyUsage));
    assert.ok(isCritical(certificate, OID.basicConstraints));
    assert.deepEqual(certificate.subjectKeyId, subjectKeyIdOf(request.spki));
    assert.equal(Buffer.from(certificate.authorityKeyId ?? []).toString('hex'), ca.subjectKeyId);
    assert.deepEqual(certificate.uriSans, ['spiffe://example.org/ns/web']);
    assert.deepEqual(certificate.dnsSans, request.dnsNames);
    assert.deepEqual(certificate.ipSans, ['127.0.0.1', '::1', '2001:db8::1:0', '::ffff:1.2.3.4']);
    assert.equal(new X509Certificate(leaf.der).subject, 'C=US\nO=SPIRE\nCN=web.example.org');
  });

  it('leaves the common name out where there is no DNS name or it is too long', () => {
    const long = `${'a'.repeat(60)}.example.org`;
    for (const dnsNames of [[], [long]]) {
      const leaf = leafSigner(ca).sign({ ...request, dnsNames });
      assert.equal(new X509Certificate(leaf.der).subject, 'C=US\nO=SPIRE');
    }
  });

  it('starts 10 s early and ends when asked, in whole seconds', () => {
    const at = new Date('2026-11-25T12:00:00.900Z');
    const leaf = leafSigner(ca).sign({
      ...request,
      now: at,
      notAfter: new Date(at.getTime() + 5000),
    });
    assert.equal(leaf.notBefore.toISOString(), '2026-11-25T11:59:50.000Z');
    assert.equal(leaf.notAfter.toISOString(), '2026-11-25T12:00:05.000Z');
    const { notBefore, notAfter } = parseCertificate(leaf.der);
    assert.deepEqual(
      { notBefore, notAfter },
      { notBefore: leaf.notBefore, notAfter: leaf.notAfter },
    );
  });

  it('ends no later than its authority', async () => {
    const authority = await makeCa('ec-p256', inMs(60_000));
    const leaf = leafSigner(authority).sign(request);
    assert.deepEqual(leaf.notAfter, parseCertificate(authority.certificate).notAfter);
  });

  it('signs nothing that would have ended already', async () => {
    const ended = { code: 'FAILED_PRECONDITION' };
    assert.throws(() => leafSigner(ca).sign({ ...request, notAfter: now }), ended);
    const authority = await makeCa('ec-p256', inMs(-1000));
    assert.throws(() => leafSigner(authority).sign(request), ended);
  });

  it('gives each leaf 16 random bytes as serial number, and says it as its reader does', () => {
    const signer = leafSigner(ca);
    const serials = new Set<string>();
    for (let round = 0; round < 200; round++) {
      const leaf = signer.sign(request);
      assert.match(leaf.serial, /^[4-7][0-9a-f]{31}$/);
      assert.equal(parseCertificate(leaf.der).serial, leaf.serial);
      serials.add(leaf.serial);
    }
    assert.equal(serials.size, 200);
  });

  it('refuses names that no certificate can carry', () => {
    const refused = { code: 'INVALID_ARGUMENT' };
    for (const name of ['a b', 'a..b', '', 'ä', 'a\0b', '-a', `${'a'.repeat(64)}.b`]) {
      assert.throws(() => leafSigner(ca).sign({ ...request, dnsNames: [name] }), refused, name);
    }
    for (const address of ['localhost', '1.2.3', '1.2.3.4/8', '::1%lo', '']) {
      assert.throws(
        () => leafSigner(ca).sign({ ...request, ipAddresses: [address] }),
        refused,
        address,
      );
    }
  });

  it("refuses a key that is not the authority's", async () => {
    const privateKey = await generateKey('ec-p256');
    assert.throws(() => leafSigner({ certificate: ca.certificate, privateKey }), /not that of/);
  });
});

describe('isDnsName', () => {
  it('admits labels of letters, digits, - and _, and one * in front', () => {
    for (const name of ['a', 'A.b-c.d_e', '*.a', '_x.a', '127.0.0.1'])
      assert.ok(isDnsName(name), name);
    for (const name of ['*', 'a.*.b', '*a.b', 'a.', '.a', 'a-', `${'a.'.repeat(127)}b`]) {
      assert.ok(!isDnsName(name), name);
    }
  });
});
