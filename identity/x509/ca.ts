// Must come first: @peculiar/x509 throws when it is imported without it.
import 'reflect-metadata';
import { type KeyObject, webcrypto } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { SpiffeId, type TrustDomain } from '../spiffe-id.ts';
import { generateKey, type KeyType, spkiOf, subjectKeyIdOf } from './key.ts';
import { newSerial } from './leaf.ts';

/** A new authority: its certificate (DER), the key, and the key's id in lower-case hex. */
export interface SelfSignedCa {
  readonly certificate: Uint8Array;
  readonly privateKey: KeyObject;
  readonly subjectKeyId: string;
}

const BACKDATED_MS = 10_000;

const SIGNING = {
  'ec-p256': { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  'ec-p384': { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' },
  ed25519: { name: 'Ed25519' },
  'rsa-2048': { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
} as const satisfies Record<KeyType, object>;

/**
 * The root of a trust domain: an X509-SVID of the domain itself.
 *
 * Source: X509-SVID 3.2, 4.1 and 4.3; the subject is built as SPIRE builds it.
 */
export async function createSelfSignedCa(options: {
  readonly trustDomain: TrustDomain;
  readonly keyType: KeyType;
  readonly notAfter: Date;
  readonly now: Date;
}): Promise<SelfSignedCa> {
  const privateKey = await generateKey(options.keyType);
  const spki = spkiOf(privateKey);
  const subjectKeyId = subjectKeyIdOf(spki).toString('hex');
  const serialNumber = newSerial().toString('hex');
  const name = new Name([{ C: ['US'] }, { O: ['SPIFFE'] }, { '2.5.4.5': [serialNumber] }]);
  const algorithm = SIGNING[options.keyType];
  const { subtle } = webcrypto;
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber,
      subject: name,
      issuer: name,
      notBefore: new Date(options.now.getTime() - BACKDATED_MS),
      notAfter: options.notAfter,
      publicKey: await subtle.importKey('spki', spki, algorithm, true, ['verify']),
      signingKey: await subtle.importKey(
        'pkcs8',
        privateKey.export({ type: 'pkcs8', format: 'der' }),
        algorithm,
        false,
        ['sign'],
      ),
      signingAlgorithm: algorithm,
      extensions: [
        new BasicConstraintsExtension(true, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        new SubjectKeyIdentifierExtension(subjectKeyId),
        new AuthorityKeyIdentifierExtension(subjectKeyId),
        new SubjectAlternativeNameExtension([
          { type: 'url', value: SpiffeId.fromSegments(options.trustDomain).toString() },
        ]),
      ],
    },
    webcrypto,
  );
  return { certificate: new Uint8Array(certificate.rawData), privateKey, subjectKeyId };
}
