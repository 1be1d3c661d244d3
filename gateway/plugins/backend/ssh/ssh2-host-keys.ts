import type { KeyObject } from 'node:crypto';
import {
  CERTIFICATE_SUFFIX,
  encodePublicKey,
  sshKeyType,
} from '../../../../identity/ssh/public-key.ts';
import { type RsaAlgorithm, signSsh } from '../../../../identity/ssh/signature.ts';
import { SshReader } from '../../../../identity/ssh/wire.ts';
import type { AlgorithmOffer, HostSigner, KeyExchange } from './ssh2-internals.ts';

/** A key that a server proves itself with. */
export interface HostKey {
  readonly privateKey: KeyObject;
  /** A host certificate over the key, which is offered before the key alone. */
  readonly certificate: Uint8Array | undefined;
}

const CIPHERS = ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com', 'aes256-ctr', 'aes128-ctr'];
const MACS = [
  'hmac-sha2-256-etm@openssh.com',
  'hmac-sha2-512-etm@openssh.com',
  'hmac-sha2-256',
  'hmac-sha2-512',
];
const RSA_ALGORITHMS: readonly RsaAlgorithm[] = ['rsa-sha2-512', 'rsa-sha2-256'];

/** What either role offers; never ssh2's own list, which has SHA-1 and compression. */
export function algorithmOffer(serverHostKey: readonly string[]): AlgorithmOffer {
  const direction = { cipher: CIPHERS, mac: MACS, compress: ['none'], lang: [] };
  return {
    kex: ['curve25519-sha256', 'curve25519-sha256@libssh.org'],
    serverHostKey,
    cs: direction,
    sc: direction,
  };
}

/** Names to offer for keys of a type: RSA has two algorithms, and SHA-1 is none of them. */
export function hostKeyAlgorithms(keyType: string): readonly string[] {
  return keyType === 'ssh-rsa' ? RSA_ALGORITHMS : [keyType];
}

/**
 * A server's keys by the algorithm that is negotiated: the certificates, then the plain keys.
 * @param exchange the key exchange under way; it is told the signature's algorithm, which for a
 *   certificate differs from the negotiated one
 */
export function hostSigners(
  hostKeys: readonly HostKey[],
  exchange: () => KeyExchange,
): Readonly<Record<string, HostSigner>> {
  const signers: Record<string, HostSigner> = {};
  for (const { privateKey, certificate } of hostKeys) {
    if (certificate === undefined) continue;
    const [plain = ''] = hostKeyAlgorithms(sshKeyType(privateKey));
    const blob = Buffer.from(certificate);
    signers[`${plain}${CERTIFICATE_SUFFIX}`] ??= signer(privateKey, { plain, blob, exchange });
  }
  for (const { privateKey } of hostKeys) {
    const blob = encodePublicKey(privateKey);
    for (const plain of hostKeyAlgorithms(sshKeyType(privateKey))) {
      signers[plain] ??= signer(privateKey, { plain, blob, exchange });
    }
  }
  return signers;
}

interface SignerOptions {
  /** The signature's algorithm. */
  readonly plain: string;
  /** What the client gets as the host's key. */
  readonly blob: Buffer;
  readonly exchange: () => KeyExchange;
}

function signer(privateKey: KeyObject, { plain, blob, exchange }: SignerOptions): HostSigner {
  const rsa = RSA_ALGORITHMS.find((algorithm) => algorithm === plain);
  return {
    type: new SshReader(blob).text(128),
    getPublicSSH: () => blob,
    sign: (data) => {
      exchange().negotiated.serverHostKey = plain;
      const signature = new SshReader(signSsh(privateKey, data, rsa), 'host key signature');
      signature.text();
      return signature.string();
    },
  };
}
