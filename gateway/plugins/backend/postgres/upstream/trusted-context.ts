import { X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';

const MOST_KEPT = 64;
const kept = new Map<string, SecureContext>();

/**
 * A TLS context that trusts `ca` (PEM) alone; made once, because that costs more than a dial.
 * @throws Error if `ca` begins with no certificate: Node would trust the public authorities in place of none
 */
export function trustedContext(ca: string): SecureContext {
  const known = kept.get(ca);
  if (known !== undefined) return known;
  new X509Certificate(ca);
  const context = createSecureContext({ ca, minVersion: 'TLSv1.2' });
  const [oldest] = kept.keys();
  if (kept.size >= MOST_KEPT && oldest !== undefined) kept.delete(oldest);
  kept.set(ca, context);
  return context;
}
