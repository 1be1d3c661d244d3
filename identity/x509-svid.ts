import { createPublicKey, type KeyObject } from 'node:crypto';
import { Fault } from '../runtime/fault.ts';
import { SpiffeId } from './spiffe-id.ts';
import { parseCertificate, publicKeyOf } from './x509/certificate.ts';
import { encodePem } from './x509/pem.ts';

/** An identity that this process holds: the chain, and the key that proves it. */
export interface X509Svid {
  readonly id: SpiffeId;
  /** DER, leaf first, without the root. */
  readonly chain: readonly Uint8Array[];
  readonly privateKey: KeyObject;
  /** Of the leaf, in lower-case hex. */
  readonly serial: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** What the operator calls it, to tell several apart; may be empty. */
  readonly hint: string;
}

/**
 * Reads what the leaf says; whether it can be trusted is for `verifySvid`.
 * @param chain DER, leaf first
 * @throws Fault SVID_INVALID: not exactly one SPIFFE ID, or a key that is not the leaf's
 */
export function x509Svid(chain: readonly Uint8Array[], privateKey: KeyObject, hint = ''): X509Svid {
  const [first] = chain;
  if (first === undefined) throw new Fault('SVID_INVALID', 'X509-SVID without a certificate');
  try {
    const leaf = parseCertificate(first);
    const [uri, ...more] = leaf.uriSans;
    if (uri === undefined || more.length > 0) throw new Error('not exactly one URI name');
    const id = SpiffeId.parse(uri);
    if (!createPublicKey(privateKey).equals(publicKeyOf(leaf))) {
      throw new Error('the key is not that of the leaf');
    }
    const { serial, notBefore, notAfter } = leaf;
    return { id, chain, privateKey, serial, notBefore, notAfter, hint };
  } catch (cause) {
    throw new Fault('SVID_INVALID', 'X509-SVID and key do not fit together', { cause });
  }
}

/** PEM for `node:tls`, which takes no KeyObject: the chain, and the key in PKCS#8. A secret. */
export function svidPem(svid: X509Svid): { certificates: string; key: string } {
  return {
    certificates: svid.chain.map((der) => encodePem('CERTIFICATE', der)).join(''),
    key: svid.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}
