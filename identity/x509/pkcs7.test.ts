import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import {
  instanceCertificate,
  instanceDocument,
  instanceSignature,
  signatureInDer,
  signatureWithoutAttributes,
} from '../../test/fixtures/instance-identity.ts';
import { derFromBer } from './ber.ts';
import { DerReader, TAG } from './der.ts';
import { verifySignedData } from './pkcs7.ts';

const key = new X509Certificate(instanceCertificate).publicKey;
const ber = Buffer.from(instanceSignature, 'base64');

describe('verifySignedData', () => {
  for (const [form, text] of [
    ['in BER with indefinite lengths', instanceSignature],
    ['in DER with a certificate', signatureInDer],
    ['without attributes', signatureWithoutAttributes],
  ] as const)
    it(`reads the content of what was signed ${form}`, () => {
      const content = verifySignedData(Buffer.from(text, 'base64'), key);
      assert.equal(content.toString('utf8'), instanceDocument);
    });

  it('refuses another key, a weak one and one of another kind', () => {
    const { publicKey: other } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const { publicKey: weak } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    const { publicKey: ec } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    assert.throws(() => verifySignedData(ber, other), /does not verify/);
    for (const unfit of [weak, ec])
      assert.throws(() => verifySignedData(ber, unfit), /not RSA of 2048/);
  });

  it('gives no content but the one that was signed, whichever byte is changed', () => {
    for (let at = 0; at < ber.length; at += 1) {
      const changed = Buffer.from(ber);
      changed.writeUInt8((changed[at] ?? 0) ^ 0x01, at);
      try {
        const content = verifySignedData(changed, key).toString('utf8');
        assert.equal(content, instanceDocument, `byte ${at}`);
      } catch (error) {
        assert.ok(error instanceof Error && error.name !== 'AssertionError', String(error));
      }
    }
  });

  it('refuses what ends early, at every byte', () => {
    for (let length = 0; length < ber.length; length += 1)
      assert.throws(() => verifySignedData(ber.subarray(0, length), key));
  });
});

describe('derFromBer', () => {
  const hex = (text: string) => Buffer.from(text, 'hex');

  it('writes definite lengths, and octet strings in one piece', () => {
    assert.equal(
      derFromBer(hex('308024800402aabb0401cc00000000')).toString('hex'),
      '30050403aabbcc',
    );
    assert.equal(derFromBer(hex('3081020500')).toString('hex'), '30020500');
  });

  it('leaves DER as it is', () => {
    const der = Buffer.from(signatureInDer, 'base64');
    assert.ok(derFromBer(der).equals(der));
    DerReader.only(derFromBer(ber), TAG.sequence);
  });

  for (const [what, bytes] of [
    ['nothing', ''],
    ['an end that is missing', '30800500'],
    ['a plain value of indefinite length', '04800000'],
    ['a part longer than the whole', '3003040300aa'],
    ['a length beyond the end', '300a0500'],
    ['a length of five bytes', '30850000000000'],
    ['bytes after the value', '300000'],
    ['an octet string of integers', '2403020101'],
    ['a tag number over 30', '1f8100'],
    ['depth', '3080'.repeat(40) + '0000'.repeat(40)],
  ] as const)
    it(`refuses ${what}`, () => {
      assert.throws(() => derFromBer(hex(bytes)), { name: 'DerError' });
    });
});
