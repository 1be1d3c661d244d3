import { X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';

const MOST_KEPT = 64;
const kept = new Map<string, SecureContext>();

/** What the gateway proves itself by, PEM. */
export interface ClientProof {
  /** The certificate, then those that lead to its authority. */
  readonly certificate: string;
  readonly key: string;
}

/**
 * A TLS context that trusts `ca` (PEM) alone; made once, because that costs more than a dial.
 * @throws Error if `ca` begins with no certificate: Node would trust the public authorities in place of
 * none; or if the proof's certificate and key are none, or not of each other
 */
export function trustedContext(ca: string, proof?: ClientProof): SecureContext {
  const name = JSON.stringify([ca, proof?.certificate, proof?.key]);
  const known = kept.get(name);
  if (known !== undefined) return known;
  new X509Certificate(ca);
  const context = createSecureContext({
    ca,
    minVersion: 'TLSv1.2',
    ...(proof && { cert: proof.certificate, key: proof.key }),
  });
  const [oldest] = kept.keys();
  if (kept.size >= MOST_KEPT && oldest !== undefined) kept.delete(oldest);
  kept.set(name, context);
  return context;
}
