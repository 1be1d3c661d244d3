import { readFileSync } from 'node:fs';
import {
  type Certificate,
  parseCertificate,
  publicKeyOf,
} from '../../../identity/x509/certificate.ts';
import { decodePem } from '../../../identity/x509/pem.ts';
import { Fault } from '../../../runtime/fault.ts';

/**
 * The authorities in PEM files of the configuration.
 * @param field what an error names
 * @throws Fault CONFIG_INVALID
 */
export function readRoots(field: string, files: readonly string[]): Certificate[] {
  return files.flatMap((file) => {
    try {
      const roots = decodePem('CERTIFICATE', readFileSync(file, 'latin1')).map(parseCertificate);
      roots.forEach(publicKeyOf);
      if (roots.length > 0 && roots.every((root) => root.basicConstraints?.ca === true))
        return roots;
    } catch (cause) {
      throw new Fault('CONFIG_INVALID', `${field}: ${file} cannot be read`, { cause });
    }
    throw new Fault('CONFIG_INVALID', `${field}: ${file} holds no certificate of an authority`);
  });
}
