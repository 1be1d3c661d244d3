/** The certificates of authorities: roots of a trust domain, and what signs below them. */
import type { KeyObject } from 'node:crypto';
import { Fault } from '../../runtime/fault.ts';
import { localSigner, type Signer } from '../signer.ts';
import { SpiffeId, type TrustDomain } from '../spiffe-id.ts';
import { parseCertificate } from './certificate.ts';
import { csrInfo, signedCsr } from './csr.ts';
import { der, derInteger, derOctetBits, derTime, TAG } from './der.ts';
import { derAltNames, derExtension, OID } from './extensions.ts';
import { generateKey, type KeyType, spkiOf, subjectKeyIdOf } from './key.ts';
import { newSerial } from './leaf.ts';
import { algorithmFor } from './signature.ts';
import { relativeName } from './subject-name.ts';

/** A new authority: its certificate (DER), and its key's id in lower-case hex. */
export interface CaCertificate {
  readonly certificate: Uint8Array;
  readonly subjectKeyId: string;
}

export interface SelfSignedCa extends CaCertificate {
  readonly privateKey: KeyObject;
}

const BACKDATED_MS = 10_000;
const VERSION_3 = Buffer.from('a003020102', 'hex');

/** keyCertSign and cRLSign. */
const CA_PROFILE = Buffer.concat([
  derExtension(OID.basicConstraints, true, der(TAG.sequence, der(TAG.boolean, Buffer.of(0xff)))),
  derExtension(OID.keyUsage, true, der(TAG.bitString, Buffer.of(1, 0b0000_0110))),
]);

interface CaInit {
  readonly trustDomain: TrustDomain;
  readonly notAfter: Date;
  readonly now: Date;
}

/** `selfSignedCa` with a new key. */
export async function createSelfSignedCa(
  options: CaInit & { readonly keyType: KeyType },
): Promise<SelfSignedCa> {
  const privateKey = await generateKey(options.keyType);
  return { ...(await selfSignedCa(options, localSigner(privateKey))), privateKey };
}

/**
 * The root of a trust domain: an X509-SVID of the domain itself.
 *
 * Source: X509-SVID 3.2, 4.1 and 4.3; the subject is built as SPIRE builds it.
 */
export function selfSignedCa(init: CaInit, signer: Signer): Promise<CaCertificate> {
  const serial = newSerial();
  const name = caName(serialAttribute(serial));
  const keyId = subjectKeyIdOf(spkiOf(signer.publicKey));
  const validity = { notBefore: backdated(init.now), notAfter: init.notAfter };
  const issuer = { name, keyId, signer };
  return signCa({ ...init, ...validity, serial, subject: name }, spkiOf(signer.publicKey), issuer);
}

/** Who signs an authority that is not a root. */
export interface CaIssuer {
  /** DER. */
  readonly certificate: Uint8Array;
  readonly signer: Signer;
}

/**
 * An authority below `issuer`; it ends with that one, or before.
 * @param spki DER, checked
 * @param unit names it, as the organisational unit of its subject
 * @throws Fault FAILED_PRECONDITION: it, or its issuer, would have ended already
 */
export function subordinateCa(
  init: CaInit & { readonly unit: string },
  spki: Uint8Array,
  issuer: CaIssuer,
): Promise<CaCertificate> {
  const {
    subject: name,
    notAfter: issuerEnd,
    subjectKeyId,
    spki: own,
  } = parseCertificate(issuer.certificate);
  const end = new Date(Math.min(init.notAfter.getTime(), issuerEnd.getTime()));
  if (!(end > init.now))
    throw new Fault('FAILED_PRECONDITION', 'the authority would have ended already');
  const unit = relativeName('2.5.4.11', der(TAG.utf8String, Buffer.from(init.unit)));
  const validity = { notBefore: backdated(init.now), notAfter: end };
  return signCa({ ...init, ...validity, serial: newSerial(), subject: caName(unit) }, spki, {
    name,
    keyId: subjectKeyId ?? subjectKeyIdOf(own),
    signer: issuer.signer,
  });
}

/** What asks an upstream authority for a certificate of this key, as SPIRE asks. */
export async function createCaCsr(trustDomain: TrustDomain, signer: Signer): Promise<Uint8Array> {
  const algorithm = algorithmFor(signer.publicKey);
  const uri = SpiffeId.fromSegments(trustDomain);
  const info = csrInfo(spkiOf(signer.publicKey), { uri, subject: caName() });
  return signedCsr(info, algorithm, await signer.sign(info, algorithm));
}

interface CaBody {
  readonly trustDomain: TrustDomain;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly serial: Uint8Array;
  readonly subject: Uint8Array;
}

interface NamedSigner {
  readonly name: Uint8Array;
  readonly keyId: Uint8Array;
  readonly signer: Signer;
}

async function signCa(
  body: CaBody,
  spki: Uint8Array,
  { name, keyId: issuerKeyId, signer }: NamedSigner,
): Promise<CaCertificate> {
  const { identifier, ...algorithm } = algorithmFor(signer.publicKey);
  const keyId = subjectKeyIdOf(spki);
  const uris = [SpiffeId.fromSegments(body.trustDomain).toString()];
  const extensions = der(
    TAG.sequence,
    CA_PROFILE,
    derExtension(OID.subjectKeyId, false, der(TAG.octetString, keyId)),
    derExtension(OID.authorityKeyId, false, der(TAG.sequence, der(0x80, issuerKeyId))),
    derExtension(OID.subjectAltName, false, derAltNames({ uris, dnsNames: [], ipAddresses: [] })),
  );
  const tbs = der(
    TAG.sequence,
    VERSION_3,
    derInteger(body.serial),
    identifier,
    name,
    der(TAG.sequence, derTime(wholeSeconds(body.notBefore)), derTime(wholeSeconds(body.notAfter))),
    body.subject,
    spki,
    der(0xa3, extensions),
  );
  const signature = derOctetBits(await signer.sign(tbs, algorithm));
  return {
    certificate: der(TAG.sequence, tbs, identifier, signature),
    subjectKeyId: keyId.toString('hex'),
  };
}

/** C=US, O=SPIFFE, and what tells this one from others. */
function caName(...more: readonly Uint8Array[]): Buffer {
  return der(
    TAG.sequence,
    relativeName('2.5.4.6', der(TAG.printableString, Buffer.from('US'))),
    relativeName('2.5.4.10', der(TAG.printableString, Buffer.from('SPIFFE'))),
    ...more,
  );
}

function serialAttribute(serial: Buffer): Buffer {
  const text = Buffer.from(serial.toString('hex'));
  return relativeName('2.5.4.5', der(TAG.printableString, text));
}

function backdated(now: Date): Date {
  return new Date(now.getTime() - BACKDATED_MS);
}

function wholeSeconds(at: Date): Date {
  return new Date(Math.floor(at.getTime() / 1000) * 1000);
}
