import { type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { decodePem } from '../../../identity/x509/pem.ts';
import { Fault } from '../../../runtime/fault.ts';

/**
 * The keys of certificates that are trusted as they stand, whatever else they say: those of a cloud are
 * not made for a chain.
 * @param field what an error names
 * @throws Fault CONFIG_INVALID
 */
export function readCertificateKeys(field: string, files: readonly string[]): KeyObject[] {
  return files.flatMap((file) => {
    try {
      const certificates = decodePem('CERTIFICATE', readFileSync(file, 'latin1'));
      return certificates.map((der) => new X509Certificate(der).publicKey);
    } catch (cause) {
      const message = `${field}: no certificates can be read from ${file}`;
      throw new Fault('CONFIG_INVALID', message, { cause });
    }
  });
}
