/** Certificates for demos and tests: a throw-away authority and what it signs. Never for production. */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { SpiffeId, type TrustDomain } from '../identity/spiffe-id.ts';
import { createSelfSignedCa } from '../identity/x509/ca.ts';
import { generateKey } from '../identity/x509/key.ts';
import { leafSigner } from '../identity/x509/leaf.ts';
import { encodePem } from '../identity/x509/pem.ts';

/** All PEM; the key is PKCS#8. */
export interface DevCertificate {
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
}

const LIFE_MS = 365 * 24 * 60 * 60 * 1000;

/** A server certificate for these DNS names and addresses, for a year, from an authority of its own. */
export async function makeServerCertificate(options: {
  readonly trustDomain: TrustDomain;
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
}): Promise<DevCertificate> {
  const { trustDomain, dnsNames, ipAddresses } = options;
  const now = new Date();
  const notAfter = new Date(now.getTime() + LIFE_MS);
  const authority = await createSelfSignedCa({ trustDomain, keyType: 'ec-p256', notAfter, now });
  const key = await generateKey('ec-p256');
  const { der } = leafSigner(authority).sign({
    spki: spkiOf(key),
    uri: SpiffeId.fromSegments(trustDomain, 'server'),
    dnsNames,
    ipAddresses,
    notAfter,
    now,
  });
  return {
    authority: encodePem('CERTIFICATE', authority.certificate),
    certificate: encodePem('CERTIFICATE', der),
    key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

function spkiOf(key: KeyObject): Uint8Array {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}
