import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { decodePem } from '../../identity/x509/pem.ts';
import { Fault } from '../../runtime/fault.ts';

/**
 * The authorities that prove https_web endpoints, as PEM. A system's own list is one of them, so they
 * are held to no rule of ours.
 * @param file what the configuration names, if it does
 * @throws Fault CONFIG_INVALID
 */
export function readWebAuthorities(file: string | undefined): string | undefined {
  if (file === undefined) return undefined;
  try {
    const text = readFileSync(file, 'latin1');
    for (const der of decodePem('CERTIFICATE', text)) new X509Certificate(der);
    return text;
  } catch (cause) {
    const message = `federation.web_ca_file: ${file} is no file of PEM certificates`;
    throw new Fault('CONFIG_INVALID', message, { cause });
  }
}
