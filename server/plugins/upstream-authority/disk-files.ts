/** The files of an authority on disk, read anew for each use and not trusted to be what they were. */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import {
  type Certificate,
  isIssuedBy,
  parseCertificate,
  publicKeyOf,
} from '../../../identity/x509/certificate.ts';
import { decodePem } from '../../../identity/x509/pem.ts';

/** Where the files are, each a path. */
export interface DiskFiles {
  /** PEM: what signs first, then what leads to a root. */
  readonly certFile: string;
  /** PEM, not encrypted, for its owner alone. */
  readonly keyFile: string;
  /** PEM: the roots; without it the last of `certFile` is the root. */
  readonly bundleFile?: string | undefined;
}

/** An authority whose files fit together. */
export interface DiskAuthority {
  readonly certificate: Certificate;
  readonly privateKey: KeyObject;
  /** From the certificate that signs up to the one below the root; empty if it is a root itself. */
  readonly chain: readonly Certificate[];
  readonly roots: readonly Certificate[];
}

const MAXIMUM_BYTES = 1_048_576;
const OTHERS = 0o077;

/** What is wrong with the files, one line for each thing. It never shows what a file holds. */
export class DiskFilesError extends Error {
  override readonly name = 'DiskFilesError';

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
  }
}

/** @throws DiskFilesError */
export function readDiskAuthority(
  { certFile, keyFile, bundleFile }: DiskFiles,
  now: Date,
): DiskAuthority {
  const problems: string[] = [];
  const attempt = <T>(read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      problems.push(error instanceof Error ? error.message : 'unknown error');
      return undefined;
    }
  };
  const sent = attempt(() => readCertificates(certFile));
  const privateKey = attempt(() => readKey(keyFile));
  const bundled = bundleFile === undefined ? [] : attempt(() => readCertificates(bundleFile));
  const [certificate] = sent ?? [];
  if (!sent || !certificate || !privateKey || !bundled) throw new DiskFilesError(problems);
  const roots = bundleFile === undefined ? sent.slice(-1) : bundled;
  const chain = sent.filter((one) => !roots.some((root) => same(root, one)));
  if (!createPublicKey(privateKey).equals(publicKeyOf(certificate)))
    problems.push(`${keyFile} is not the key of the first certificate of ${certFile}`);
  for (const [at, one] of sent.entries())
    problems.push(...faultsOf(one, now).map((why) => `${certFile}: certificate ${at + 1} ${why}`));
  if (bundleFile !== undefined)
    for (const [at, one] of bundled.entries())
      problems.push(
        ...faultsOf(one, now).map((why) => `${bundleFile}: certificate ${at + 1} ${why}`),
      );
  else if (roots.some((root) => !isIssuedBy(root, root)))
    problems.push(`${certFile} does not end with a root, and there is no bundle_file`);
  if (problems.length > 0) throw new DiskFilesError(problems);
  return { certificate, privateKey, chain, roots };
}

/** Why a certificate cannot be an authority's. */
function faultsOf({ basicConstraints, keyUsage, notBefore, notAfter }: Certificate, now: Date) {
  const faults: string[] = [];
  if (basicConstraints?.ca !== true) faults.push('is none of an authority (CA:TRUE)');
  if (keyUsage?.has('keyCertSign') === false)
    faults.push('may not sign certificates (keyCertSign)');
  if (notAfter <= now) faults.push(`has expired at ${notAfter.toISOString()}`);
  if (notBefore > now) faults.push(`is not valid before ${notBefore.toISOString()}`);
  return faults;
}

function readCertificates(file: string): Certificate[] {
  const text = readText(file);
  try {
    const certificates = decodePem('CERTIFICATE', text).map(parseCertificate);
    certificates.forEach(publicKeyOf);
    return certificates;
  } catch (error) {
    throw new Error(`${file}: ${error instanceof Error ? error.message : 'malformed'}`);
  }
}

function readKey(file: string): KeyObject {
  const text = readText(file);
  if ((statSync(file).mode & OTHERS) !== 0)
    throw new Error(`${file} can be read by others: its mode must be 0600`);
  try {
    return createPrivateKey(text);
  } catch {
    throw new Error(`${file} holds no private key in PEM that is not encrypted`);
  }
}

function readText(file: string): string {
  try {
    if (statSync(file).size <= MAXIMUM_BYTES) return readFileSync(file, 'latin1');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
    throw new Error(`${file} cannot be read: ${code}`);
  }
  throw new Error(`${file} is longer than 1 MiB`);
}

function same(one: Certificate, other: Certificate): boolean {
  return Buffer.compare(one.raw, other.raw) === 0;
}
