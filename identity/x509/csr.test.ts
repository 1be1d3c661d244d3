import 'reflect-metadata';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, randomBytes, webcrypto } from 'node:crypto';
import {
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
} from '@peculiar/x509';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { SpiffeId } from '../spiffe-id.ts';
import { createCsr, parseCsr } from './csr.ts';
import { der, derOctetBits, derOid, TAG } from './der.ts';
import { derExtension, OID } from './extensions.ts';
import { generateKey, type KeyType, spkiOf } from './key.ts';
import { encodePem } from './pem.ts';
import { algorithmFor, signWith } from './signature.ts';

const refused = { code: 'INVALID_ARGUMENT' };
const id = SpiffeId.parse('spiffe://example.org/web');

describe('createCsr', () => {
  for (const type of ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048'] as KeyType[]) {
    it(`makes a request with ${type} that parseCsr and @peculiar/x509 verify`, async () => {
      const key = await generateKey(type);
      const csr = createCsr(key, { uri: id });
      const { spki, uriSans, dnsSans } = await parseCsr(csr);
      assert.deepEqual(spki, spkiOf(key));
      assert.deepEqual([uriSans, dnsSans], [[id.toString()], []]);
      assert.equal(await new Pkcs10CertificateRequest(csr).verify(webcrypto), true);
    });
  }

  it('makes a request that openssl verifies', async function () {
    if (!hasProgram('openssl')) skipWithout(this, 'openssl');
    const pem = encodePem(
      'CERTIFICATE REQUEST',
      createCsr(await generateKey('ec-p256'), { uri: id }),
    );
    const args = ['req', '-verify', '-noout', '-text'];
    const shown = execFileSync('openssl', args, { input: pem, stdio: 'pipe' }).toString();
    assert.match(shown, /URI:spiffe:\/\/example\.org\/web/);
  });

  it('asks for no name where none is given', async () => {
    assert.deepEqual((await parseCsr(createCsr(await generateKey('ec-p256')))).uriSans, []);
  });
});

describe('parseCsr', () => {
  it('reads the names of a request made by @peculiar/x509', async () => {
    const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
    const keys = (await webcrypto.subtle.generateKey(algorithm, true, [
      'sign',
      'verify',
    ])) as webcrypto.CryptoKeyPair;
    const names = new SubjectAlternativeNameExtension([
      { type: 'url', value: id.toString() },
      { type: 'dns', value: 'web.example.org' },
    ]);
    const request = await Pkcs10CertificateRequestGenerator.create(
      { name: 'CN=web', keys, signingAlgorithm: algorithm, extensions: [names] },
      webcrypto,
    );
    const { uriSans, dnsSans } = await parseCsr(new Uint8Array(request.rawData));
    assert.deepEqual(uriSans, [id.toString()]);
    assert.deepEqual(dnsSans, ['web.example.org']);
  });

  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const request = (parts: {
    version?: Buffer;
    spki?: Buffer;
    attributes?: Buffer[];
    /** After the attributes, inside of what is signed. */
    infoTail?: Buffer[];
    tail?: Buffer[];
  }) => {
    const info = der(
      TAG.sequence,
      parts.version ?? Buffer.of(2, 1, 0),
      der(TAG.sequence),
      parts.spki ?? spkiOf(key),
      ...(parts.attributes === undefined ? [] : [der(0xa0, ...parts.attributes)]),
      ...(parts.infoTail ?? []),
    );
    const algorithm = algorithmFor(key);
    const signature = derOctetBits(signWith(key, algorithm, info));
    return der(TAG.sequence, info, algorithm.identifier, signature, ...(parts.tail ?? []));
  };
  const extensionRequest = (...values: Buffer[]) =>
    der(TAG.sequence, derOid('1.2.840.113549.1.9.14'), der(TAG.set, ...values));
  const names = der(TAG.sequence, der(0x82, Buffer.from('a')));
  const list = der(TAG.sequence, derExtension(OID.subjectAltName, false, names));

  it('takes a request without attributes, and passes over attributes it does not know', async () => {
    assert.deepEqual((await parseCsr(request({}))).dnsSans, []);
    const other = der(TAG.sequence, derOid('1.2.840.113549.1.9.7'), der(TAG.set, der(TAG.null)));
    const { dnsSans } = await parseCsr(request({ attributes: [other, extensionRequest(list)] }));
    assert.deepEqual(dnsSans, ['a']);
  });

  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const wrong: Record<string, Buffer> = {
    'a key that did not sign it': request({ spki: spkiOf(other) }),
    'a key of another curve': request({
      spki: spkiOf(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey),
    }),
    'a short RSA key': request({
      spki: spkiOf(generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey),
    }),
    'an RSA key under an ECDSA signature': request({
      spki: spkiOf(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey),
    }),
    'version 2': request({ version: Buffer.of(2, 1, 1) }),
    'two extension requests': request({
      attributes: [extensionRequest(list), extensionRequest(list)],
    }),
    'two lists in an extension request': request({ attributes: [extensionRequest(list, list)] }),
    'an empty extension request': request({ attributes: [extensionRequest()] }),
    'too many attributes': request({
      attributes: Array.from({ length: 17 }, (_, at) =>
        der(TAG.sequence, derOid(`1.2.3.${at}`), der(TAG.set, der(TAG.null))),
      ),
    }),
    'bytes after the attributes, which its key has signed': request({
      attributes: [],
      infoTail: [Buffer.of(5, 0)],
    }),
    'bytes inside at its end': request({ tail: [Buffer.of(5, 0)] }),
    'bytes after it': Buffer.concat([request({}), Buffer.of(0)]),
    nothing: Buffer.alloc(0),
    'more than 64 KiB': Buffer.alloc(70_000, 0x30),
  };
  for (const [what, bytes] of Object.entries(wrong)) {
    it(`refuses ${what}`, () => assert.rejects(parseCsr(bytes), refused));
  }

  it('refuses each request of which one byte has been changed', async () => {
    const good = request({ attributes: [extensionRequest(list)] });
    for (let at = 0; at < good.length; at++) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ (1 << (at % 8));
      await assert.rejects(parseCsr(bad), refused);
    }
  });

  it('answers random bytes with a Fault', async () => {
    for (let round = 0; round < 1000; round++) {
      const noise = Buffer.concat([Buffer.of(0x30, 100), randomBytes(100)]);
      await assert.rejects(parseCsr(noise), refused);
    }
  });
});
