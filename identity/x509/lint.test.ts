import 'reflect-metadata';
import assert from 'node:assert/strict';
import { createPublicKey, randomBytes, webcrypto } from 'node:crypto';
import * as peculiar from '@peculiar/x509';
import {
  type HandMade,
  handMadeCa,
  handMadeCertificate,
  newKey,
  type Parts,
  USAGE,
} from '../../test/fixtures/hand-made-certificate.ts';
import { makeBundle } from '../bundle.ts';
import { localSigner } from '../signer.ts';
import { parseTrustDomain, SpiffeId } from '../spiffe-id.ts';
import { verifySvid } from '../verify.ts';
import { createSelfSignedCa, subordinateCa } from './ca.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { der, TAG } from './der.ts';
import { derExtension, OID } from './extensions.ts';
import { generateKey, spkiOf } from './key.ts';
import { leafSigner } from './leaf.ts';
import { LeafLint } from './leaf-lint.ts';
import { type ExpectedLeaf, lintCa, lintLeaf } from './lint.ts';

const TD = parseTrustDomain('example.org');
const ID = SpiffeId.parse('spiffe://example.org/web');
const LEAF_USAGE = 0b1010_1000;
const HOUR_MS = 3_600_000;
const now = new Date();
const inHours = (hours: number) => new Date(now.getTime() + hours * HOUR_MS);
const authority = handMadeCa({ notAfter: inHours(10) });
const issuer = parseCertificate(authority.der);
const bundle = makeBundle({ trustDomain: TD, x509: [authority.der] });
const common = { issuer, notAfter: inHours(2), now };
const ECDSA_SHA512 = { identifier: Buffer.from('300a06082a8648ce3d040304', 'hex'), hash: 'sha512' };
const key = newKey();
const spki = spkiOf(key);

const leaf = (parts: Parts = {}): HandMade =>
  handMadeCertificate({ issuer: authority, key, keyUsage: LEAF_USAGE, ...parts });
const wanted: ExpectedLeaf = { ...common, spki, id: ID, dnsNames: [], ipAddresses: [] };
const ruleBroken = (lint: () => void) => {
  try {
    lint();
    return undefined;
  } catch (error) {
    assert.ok(error instanceof Error);
    return error.message.replace('a certificate was made that breaks a rule: ', '');
  }
};
const broken = (certificate: Uint8Array, expected: Partial<ExpectedLeaf> = {}) =>
  ruleBroken(() => lintLeaf(certificate, { ...wanted, ...expected }));

const strange = derExtension('1.2.3.4', false, der(TAG.null));
const otherName = derExtension(
  OID.subjectAltName,
  false,
  der(TAG.sequence, der(0x86, Buffer.from(ID.toString())), der(0x81, Buffer.from('a@example.org'))),
);
/** Leaves that break a rule, and which. */
const LEAF_CASES: [string, Parts, string][] = [
  ['no SPIFFE ID', { uris: [], dnsNames: ['a'] }, 'exactly one URI name'],
  ['two URI names', { uris: [ID.toString(), 'https://a'] }, 'exactly one URI name'],
  ['another SPIFFE ID', { uris: ['spiffe://example.org/b'] }, 'SPIFFE ID as asked for'],
  ['the trust domain as SPIFFE ID', { uris: ['spiffe://example.org'] }, 'SPIFFE ID as asked for'],
  ['a DNS name too many', { dnsNames: ['a.example.org'] }, 'DNS names as asked for'],
  ['a mail address', { uris: [], moreExtensions: [otherName] }, 'no name of another kind'],
  ['CA:TRUE', { ca: true }, 'no CA'],
  ['no basic constraints', { basicConstraints: null }, 'critical basic constraints'],
  [
    'basic constraints that are not critical',
    { basicConstraintsCritical: false },
    'critical basic constraints',
  ],
  ['no key usage', { keyUsage: null }, 'critical key usage'],
  ['key usage that is not critical', { keyUsageCritical: false }, 'critical key usage'],
  ['keyCertSign', { keyUsage: LEAF_USAGE | USAGE.keyCertSign }, 'key usage of a leaf'],
  ['cRLSign', { keyUsage: LEAF_USAGE | USAGE.cRLSign }, 'key usage of a leaf'],
  ['no digitalSignature', { keyUsage: USAGE.keyEncipherment }, 'key usage of a leaf'],
  ['no purposes', { extKeyUsage: null }, 'server and client purpose'],
  ['one purpose', { extKeyUsage: [OID.serverAuth] }, 'server and client purpose'],
  [
    'a purpose more',
    { extKeyUsage: [OID.serverAuth, OID.clientAuth, OID.anyExtKeyUsage] },
    'server and client purpose',
  ],
  ['no subject, names not critical', { name: '' }, 'critical names without a subject'],
  ['an extension more', { moreExtensions: [strange] }, 'extensions of a leaf'],
  ['a short serial number', { serial: Buffer.of(0x51, 1, 2, 3) }, 'serial number of 16 bytes'],
  ['another key', { key: newKey() }, 'key as asked for'],
  ['SHA-512', { algorithm: ECDSA_SHA512 }, 'signature algorithm of the authority'],
  ['an end that is too late', { notAfter: inHours(3) }, 'end as asked for'],
  ['an end that has passed', { notAfter: inHours(-0.5) }, 'good from now on'],
  ['a beginning to come', { notBefore: inHours(1), notAfter: inHours(2) }, 'good from now on'],
  ['another issuer', { issuer: handMadeCa({ name: 'Other' }) }, 'issuer name of the authority'],
  ['another key of the issuer', { issuer: handMadeCa() }, 'authority key id of the authority'],
];

describe('lintLeaf', () => {
  it('passes what the leaf signer makes, with every kind of key and name', async () => {
    for (const keyType of ['ec-p256', 'ec-p384', 'rsa-2048'] as const) {
      const ca = await createSelfSignedCa({ trustDomain: TD, now, notAfter: inHours(5), keyType });
      const asked = {
        ...{ spki, uri: ID, dnsNames: ['db.example.org', '*.example.org'] },
        ...{ ipAddresses: ['10.0.0.1', '2001:DB8:0::1', '::ffff:10.0.0.1'], now },
        notAfter: inHours(2),
      };
      const { der: signed } = leafSigner(ca).sign(asked);
      lintLeaf(signed, { ...common, ...asked, id: ID, issuer: parseCertificate(ca.certificate) });
    }
  });

  it('passes a leaf that was made in another way and says the same', () => {
    assert.equal(broken(leaf().der), undefined);
    assert.equal(broken(leaf({ name: '', altNamesCritical: true }).der), undefined);
  });

  it('judges what @peculiar/x509 makes by the same rules', async () => {
    const { ca, make } = await peculiarAuthority();
    const usage = { leaf: 1 | 4 | 16, more: 1 | 4 | 16 | 32 };
    const judge = (made: Uint8Array) => broken(made, { issuer: parseCertificate(ca) });
    assert.equal(judge(await make(usage.leaf)), undefined);
    assert.equal(judge(await make(usage.more)), 'key usage of a leaf');
    assert.equal(judge(await make(usage.leaf, { serial: '51' })), 'serial number of 16 bytes');
    const end = inHours(3);
    assert.equal(judge(await make(usage.leaf, { notAfter: end })), 'end as asked for');
  });

  for (const [what, parts, rule] of LEAF_CASES)
    it(`stops a leaf with ${what}`, () => {
      assert.equal(broken(leaf(parts).der), rule);
    });

  it('stops a leaf that ends after its authority', () => {
    const shortCa = handMadeCa({ notAfter: inHours(1) });
    const late = leaf({ issuer: shortCa, notAfter: inHours(2) }).der;
    const rule = broken(late, { issuer: parseCertificate(shortCa.der) });
    assert.equal(rule, 'end before that of the authority');
  });

  it('stops a name that was asked for and is not there, and an ID without a path', () => {
    const { der: plain } = leaf();
    assert.equal(broken(plain, { dnsNames: ['a'] }), 'DNS names as asked for');
    assert.equal(broken(plain, { ipAddresses: ['::1'] }), 'IP addresses as asked for');
    const id = SpiffeId.parse('spiffe://example.org');
    assert.equal(broken(leaf({ uris: [id.toString()] }).der, { id }), 'SPIFFE ID with a path');
  });

  it('passes nothing that verifiers refuse', () => {
    for (const [what, parts] of LEAF_CASES) {
      const { der: made } = leaf(parts);
      const isRefused = isRefusedBy(() => verifySvid([made], () => bundle, now));
      assert.ok(!isRefused || broken(made) !== undefined, what);
    }
  });

  it('notices each bit that is another, but in what it is told nothing of', () => {
    const { der: good } = leaf();
    const certificate = parseCertificate(good);
    const free = freeRanges(good, certificate);
    const unnoticed: number[] = [];
    for (let at = 0; at < good.length; at += 1) {
      if (free.some(([from, to]) => at >= from && at < to)) continue;
      for (let bit = 0; bit < 8; bit += 1) {
        const bad = Buffer.from(good);
        bad[at] = (bad[at] ?? 0) ^ (1 << bit);
        if (broken(bad) === undefined) unnoticed.push(at);
      }
    }
    assert.deepEqual(unnoticed, []);
  });
});

describe('LeafLint', () => {
  const ca = { certificate: authority.der, privateKey: authority.key };
  const asked = { spki, uri: ID, dnsNames: [], notAfter: inHours(2), now };
  const { der: good } = leafSigner(ca).sign(asked);
  /** One that has met a good leaf, and looks at others in one pass. */
  const practised = () => {
    const lint = new LeafLint(issuer);
    lint.check(good, wanted);
    return lint;
  };
  const found = (lint: LeafLint, made: Uint8Array, expected: Partial<ExpectedLeaf> = {}) =>
    ruleBroken(() => lint.check(made, { ...wanted, ...expected }));

  it('passes leaf after leaf, with every kind of name, key and end', () => {
    const lint = practised();
    const others: Partial<ExpectedLeaf>[] = [
      { dnsNames: ['db.example.org', '*.example.org'] },
      { ipAddresses: ['10.0.0.1', '2001:DB8:0::1'] },
      { dnsNames: ['a'], ipAddresses: ['::1'] },
      { spki: spkiOf(newKey()) },
      { id: SpiffeId.parse('spiffe://example.org/other'), notAfter: inHours(1) },
    ];
    for (const other of [...others, ...others]) {
      const { id: uri, ...expected } = { ...wanted, ...other };
      const { der: made } = leafSigner(ca).sign({ ...expected, uri });
      assert.equal(found(lint, made, other), undefined);
    }
  });

  it('finds what lintLeaf finds', () => {
    const lint = practised();
    for (const [what, parts] of LEAF_CASES) {
      const { der: made } = leaf(parts);
      assert.equal(found(lint, made), broken(made), what);
      assert.equal(found(lint, good), undefined);
    }
  });

  it('holds what it has met to what is asked for and to the time, each time', () => {
    const others: Partial<ExpectedLeaf>[] = [
      ...[{ spki: spkiOf(newKey()) }, { dnsNames: ['a'] }, { ipAddresses: ['::1'] }],
      ...[{ notAfter: inHours(1) }, { now: inHours(3) }, { now: inHours(-3) }],
      { id: SpiffeId.parse('spiffe://example.org/other') },
    ];
    for (const other of others) {
      const rule = broken(good, other);
      assert.ok(rule !== undefined);
      assert.equal(found(practised(), good, other), rule);
    }
  });

  it('finds in a leaf with one bit changed what lintLeaf finds', () => {
    const lint = practised();
    for (let at = 0; at < good.length; at += 1)
      for (let bit = 0; bit < 8; bit += 1) {
        const bad = Buffer.from(good);
        bad[at] = (bad[at] ?? 0) ^ (1 << bit);
        assert.equal(found(lint, bad), broken(bad), `bit ${bit} of byte ${at}`);
      }
  });

  it('keeps nothing of a leaf that is not good', () => {
    const lint = new LeafLint(issuer);
    const { der: made } = leaf({ keyUsage: LEAF_USAGE | USAGE.keyCertSign });
    for (let round = 0; round < 2; round += 1)
      assert.equal(found(lint, made), 'key usage of a leaf');
  });
});

describe('lintCa', () => {
  const expected = { ...common, spki, trustDomain: TD };
  const ca = (parts: Parts = {}) => handMadeCa({ issuer: authority, key, name: 'Below', ...parts });
  const rule = (certificate: Uint8Array) => {
    try {
      lintCa(certificate, expected);
      return undefined;
    } catch (error) {
      return error instanceof Error ? error.message.split(': ')[1] : '';
    }
  };

  it('passes what is made for a server below', async () => {
    const below = await generateKey('ec-p384');
    const init = { trustDomain: TD, now, notAfter: inHours(2), unit: 'A' };
    const signer = { certificate: authority.der, signer: localSigner(authority.key) };
    const { certificate } = await subordinateCa(init, spkiOf(below), signer);
    lintCa(certificate, { ...expected, spki: spkiOf(below) });
    assert.equal(rule(ca().der), undefined);
  });

  const cases: [string, Parts, string][] = [
    ['CA:FALSE', { ca: false }, 'CA'],
    ['no keyCertSign', { keyUsage: USAGE.cRLSign }, 'key usage of an authority'],
    ['a usage of leaves', { keyUsage: 0x86 }, 'key usage of an authority'],
    ['the ID of a workload', { uris: [ID.toString()] }, 'SPIFFE ID of the trust domain'],
    ['another trust domain', { uris: ['spiffe://b.org'] }, 'SPIFFE ID of the trust domain'],
    ['no SPIFFE ID', { uris: [], dnsNames: ['a'] }, 'exactly one URI name'],
    ['a DNS name', { dnsNames: ['a'] }, 'no DNS name and no IP address'],
    ['no subject', { name: '' }, 'a subject'],
    ['purposes', { extKeyUsage: [OID.serverAuth] }, 'extensions of an authority'],
    ['an end that is too late', { notAfter: inHours(3) }, 'end as asked for'],
    ['another key', { key: newKey() }, 'key as asked for'],
  ];
  for (const [what, parts, broken] of cases)
    it(`stops an authority with ${what}`, () => {
      assert.equal(rule(ca(parts).der), broken);
    });
});

/** Signs leaves for `key` as another library does. */
async function peculiarAuthority() {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair;
  const common = { notBefore: inHours(-1), signingAlgorithm: algorithm };
  const ca = await peculiar.X509CertificateGenerator.createSelfSigned(
    {
      ...{ ...common, keys, name: 'CN=Root', serialNumber: '51', notAfter: inHours(10) },
      extensions: [
        await peculiar.SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  const spkiKey = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const publicKey = await webcrypto.subtle.importKey('spki', spkiKey, algorithm, true, ['verify']);
  const make = async (
    usage: number,
    more: { readonly serial?: string; readonly notAfter?: Date } = {},
  ): Promise<Uint8Array> => {
    const certificate = await peculiar.X509CertificateGenerator.create(
      {
        ...{ ...common, publicKey, signingKey: keys.privateKey, issuer: ca.subject },
        ...{ subject: 'CN=web', notAfter: more.notAfter ?? inHours(1) },
        serialNumber: more.serial ?? `51${randomBytes(15).toString('hex')}`,
        extensions: [
          new peculiar.BasicConstraintsExtension(false, undefined, true),
          new peculiar.KeyUsagesExtension(usage, true),
          new peculiar.ExtendedKeyUsageExtension([OID.serverAuth, OID.clientAuth]),
          new peculiar.SubjectAlternativeNameExtension([{ type: 'url', value: ID.toString() }]),
          await peculiar.SubjectKeyIdentifierExtension.create(publicKey, false, webcrypto),
          await peculiar.AuthorityKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
        ],
      },
      webcrypto,
    );
    return new Uint8Array(certificate.rawData);
  };
  return { ca: new Uint8Array(ca.rawData), make };
}

/** Where a leaf may be as it likes: serial number, validity, the subject's text, and the signature. */
function freeRanges(bytes: Buffer, certificate: Certificate): [number, number][] {
  const serialAt = bytes.indexOf(Buffer.from(certificate.serial, 'hex'));
  const subjectAt = bytes.indexOf(certificate.subject, bytes.indexOf(certificate.issuer) + 1);
  const validityAt = bytes.indexOf(certificate.issuer) + certificate.issuer.length;
  const signatureAt = bytes.length - certificate.signature.length;
  return [
    [serialAt, serialAt + 16],
    [validityAt, subjectAt],
    [subjectAt, subjectAt + certificate.subject.length],
    [signatureAt, bytes.length],
  ];
}

function isRefusedBy(verify: () => unknown): boolean {
  try {
    verify();
    return false;
  } catch {
    return true;
  }
}
