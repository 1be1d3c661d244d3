import { readFile } from 'node:fs/promises';
import type { BackendTls } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { type ClientProof, trustedContext } from './trusted-context.ts';

type ProofFiles = Pick<BackendTls, 'clientCertificateFile' | 'clientKeyFile'>;

/** By the names of the two files: the last pair that fitted. */
const lastGood = new Map<string, ClientProof>();

/**
 * The TLS context for a backend, from its files as they are now. Certificate and key are two files, and
 * who renews them writes one after the other: until they fit each other again, the last pair serves.
 * @throws Error if a file cannot be read, or if certificate and key never fitted
 */
export async function backendContext(tls: ProofFiles & Pick<BackendTls, 'caFile'>) {
  const ca = await readFile(tls.caFile, 'utf8');
  if (tls.clientCertificateFile === '') return trustedContext(ca);
  const proof = await readProof(tls);
  const name = JSON.stringify([tls.clientCertificateFile, tls.clientKeyFile]);
  try {
    const context = trustedContext(ca, proof);
    lastGood.set(name, proof);
    return context;
  } catch (error) {
    const last = lastGood.get(name);
    if (last === undefined) throw error;
    return trustedContext(ca, last);
  }
}

async function readProof({
  clientCertificateFile,
  clientKeyFile,
}: ProofFiles): Promise<ClientProof> {
  const [certificate, key] = await Promise.all([
    readFile(clientCertificateFile, 'utf8'),
    readFile(clientKeyFile, 'utf8'),
  ]);
  return { certificate, key };
}
