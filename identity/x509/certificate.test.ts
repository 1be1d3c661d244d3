import assert from 'node:assert/strict';
import { randomBytes, X509Certificate } from 'node:crypto';
import { handMadeCa, handMadeCertificate } from '../../test/fixtures/hand-made-certificate.ts';
import { localhostCertificate } from '../../test/fixtures/localhost-tls.ts';
import { isCritical, isIssuedBy, parseCertificate, publicKeyOf } from './certificate.ts';
import { der, derOid, TAG } from './der.ts';
import { derExtension, OID } from './extensions.ts';
import { decodePem } from './pem.ts';

const malformed = { code: 'INVALID_ARGUMENT' };

describe('parseCertificate', () => {
  const ca = handMadeCa({ pathLength: 3 });
  const leaf = handMadeCertificate({ issuer: ca, dnsNames: ['web.example.org'] });

  it('reads what node:crypto reads', () => {
    const [local = Buffer.alloc(0)] = decodePem('CERTIFICATE', localhostCertificate);
    for (const bytes of [ca.der, leaf.der, local]) {
      const ours = parseCertificate(bytes);
      const theirs = new X509Certificate(bytes);
      assert.equal(ours.serial.toUpperCase(), theirs.serialNumber);
      assert.equal(ours.notBefore.getTime(), Date.parse(theirs.validFrom));
      assert.equal(ours.notAfter.getTime(), Date.parse(theirs.validTo));
      assert.deepEqual(ours.spki, theirs.publicKey.export({ type: 'spki', format: 'der' }));
      assert.equal(ours.basicConstraints?.ca, theirs.ca);
      const names = [
        ...ours.uriSans.map((name) => `URI:${name}`),
        ...ours.dnsSans.map((name) => `DNS:${name}`),
        ...ours.ipSans.map((name) => `IP Address:${name}`),
      ];
      assert.equal(names.join(', '), theirs.subjectAltName);
      assert.ok(publicKeyOf(ours).equals(theirs.publicKey));
    }
  });

  it('reads usages, constraints and key ids', () => {
    const authority = parseCertificate(ca.der);
    const certificate = parseCertificate(leaf.der);
    assert.deepEqual([...(authority.keyUsage ?? [])], ['keyCertSign', 'cRLSign']);
    assert.deepEqual(authority.basicConstraints, { ca: true, pathLength: 3 });
    assert.deepEqual(certificate.extKeyUsage, [OID.serverAuth, OID.clientAuth]);
    assert.deepEqual(certificate.basicConstraints, { ca: false, pathLength: undefined });
    assert.deepEqual(certificate.authorityKeyId, authority.subjectKeyId);
    assert.deepEqual(certificate.issuer, authority.subject);
    assert.ok(isCritical(certificate, OID.keyUsage));
    assert.ok(!isCritical(certificate, OID.subjectAltName));
  });

  it('takes the sign byte off a serial number', () => {
    const certificate = parseCertificate(handMadeCa({ serial: Buffer.of(0xff, 1) }).der);
    assert.equal(certificate.serial, 'ff01');
  });

  it('reads a serial number of zero, which RFC 5280 asks users to bear', () => {
    assert.equal(parseCertificate(handMadeCa({ serial: Buffer.of(0) }).der).serial, '00');
  });

  const extension = (oid: string, value: Buffer) => derExtension(oid, false, value);
  const sequence = (...parts: Buffer[]) => der(TAG.sequence, ...parts);
  const refused: Record<string, Buffer> = {
    'version 1': handMadeCa({ version: Buffer.alloc(0) }).der,
    'version 2': handMadeCa({ version: Buffer.from('a003020101', 'hex') }).der,
    'a serial number of 21 bytes': handMadeCa({ serial: Buffer.alloc(21, 1) }).der,
    'two signature algorithms': handMadeCa({
      outerIdentifier: Buffer.from('300a06082a8648ce3d040303', 'hex'),
    }).der,
    'an extension twice': handMadeCa({
      moreExtensions: [extension(OID.subjectAltName, sequence(der(0x82, Buffer.from('a'))))],
    }).der,
    'more than 64 extensions': handMadeCa({
      moreExtensions: Array.from({ length: 64 }, (_, at) => extension(`1.2.3.${at}`, sequence())),
    }).der,
    'FALSE written out': handMadeCa({
      moreExtensions: [
        sequence(derOid('1.2.3'), der(TAG.boolean, Buffer.of(0)), der(TAG.octetString)),
      ],
    }).der,
    'no names in a subjectAltName': handMadeCa({
      uris: [],
      moreExtensions: [extension(OID.subjectAltName, sequence())],
    }).der,
    'a name of unknown form': handMadeCa({
      uris: [],
      moreExtensions: [extension(OID.subjectAltName, sequence(der(0x89)))],
    }).der,
    'a name beyond ASCII': handMadeCa({ uris: ['spiffe://example.org/\u00e4'] }).der,
    'an IP address of five bytes': handMadeCa({
      uris: [],
      moreExtensions: [extension(OID.subjectAltName, sequence(der(0x87, Buffer.alloc(5))))],
    }).der,
    'a path length without CA': handMadeCertificate({ pathLength: 1 }).der,
    'no purposes in an extKeyUsage': handMadeCertificate({ extKeyUsage: [] }).der,
    'half an issuer in an authority key id': handMadeCertificate({
      basicConstraints: null,
      moreExtensions: [extension('2.5.29.35', sequence(der(0x82, Buffer.of(1))))],
    }).der,
    'bytes after it': Buffer.concat([leaf.der, Buffer.of(0)]),
    'bytes after its extensions': withByteAfterExtensions(),
    nothing: Buffer.alloc(0),
    'more than 64 KiB': Buffer.alloc(70_000, 0x30),
  };
  for (const [what, bytes] of Object.entries(refused)) {
    it(`refuses ${what}`, () => assert.throws(() => parseCertificate(bytes), malformed));
  }

  it('refuses a certificate cut short at any byte, and never fails in another way', () => {
    for (let length = 0; length < leaf.der.length; length++) {
      assert.throws(() => parseCertificate(leaf.der.subarray(0, length)), malformed);
    }
  });

  it('answers random bytes with a Fault', () => {
    for (let round = 0; round < 2000; round++) {
      const bytes = Buffer.concat([Buffer.of(0x30, 0x82, 0, 196), randomBytes(196)]);
      assert.throws(() => parseCertificate(bytes), malformed);
    }
  });

  function withByteAfterExtensions(): Buffer {
    const list = der(TAG.sequence, extension('1.2.3', sequence()));
    const tbs = [...Array(8).keys()].map(() => Buffer.alloc(0));
    tbs[0] = Buffer.from('a003020102020101', 'hex');
    const identifier = Buffer.from('300a06082a8648ce3d040302', 'hex');
    const certificate = parseCertificate(ca.der);
    const validity = Buffer.from(
      '301e170d3236303130313030303030305a170d3237303130313030303030305a',
      'hex',
    );
    const body = sequence(
      ...tbs,
      identifier,
      Buffer.from(certificate.issuer),
      validity,
      Buffer.from(certificate.subject),
      Buffer.from(certificate.spki),
      der(0xa3, list, Buffer.of(5, 0)),
    );
    return sequence(body, identifier, der(TAG.bitString, Buffer.of(0, 1)));
  }
});

describe('isIssuedBy', () => {
  it('looks at the signature, not at the name', () => {
    const ca = handMadeCa();
    const impostor = handMadeCa();
    const leaf = parseCertificate(handMadeCertificate({ issuer: ca }).der);
    assert.equal(isIssuedBy(leaf, parseCertificate(ca.der)), true);
    assert.equal(isIssuedBy(leaf, parseCertificate(impostor.der)), false);
  });
});

describe('publicKeyOf', () => {
  it('makes the key once', () => {
    const certificate = parseCertificate(handMadeCa().der);
    assert.equal(publicKeyOf(certificate), publicKeyOf(certificate));
  });
});
