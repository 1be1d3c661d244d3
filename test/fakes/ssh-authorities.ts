import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { type SshCertificateInit, signSshCertificate } from '../../identity/ssh/certificate.ts';
import { encodePublicKey } from '../../identity/ssh/public-key.ts';
import type { Clock } from '../../runtime/clock.ts';

const SKEW_MS = 30_000;
const TTL_MS = { user: 5 * 60_000, host: 24 * 60 * 60_000 } as const;

/** What a test may want otherwise. */
export type CertificateChange = Partial<SshCertificateInit> & { readonly authority?: KeyObject };

/** The three SSH authorities of a throw-away trust domain, and certificates as its server signs them. */
export class SshAuthorities {
  readonly user = newKey();
  readonly host = newKey();
  readonly gateway = newKey();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** As a snapshot tells them. */
  get keys(): { user: Uint8Array[]; host: Uint8Array[] } {
    return { user: [encodePublicKey(this.user)], host: [encodePublicKey(this.host)] };
  }

  /** A workload's certificate. */
  issueUser(spiffeId: string, key: KeyObject | Uint8Array, change?: CertificateChange): Buffer {
    const init = { keyId: spiffeId, principals: [spiffeId] };
    return this.#sign(this.user, this.#init('user', key, init), change);
  }

  /** A target's or a gateway's. */
  issueHost(
    principals: readonly string[],
    key: KeyObject | Uint8Array,
    change?: CertificateChange,
  ): Buffer {
    const init = { keyId: principals.join(','), principals };
    return this.#sign(this.host, this.#init('host', key, init), change);
  }

  /** A gateway's, for one login on a target. */
  issueGateway(
    key: KeyObject | Uint8Array,
    change: CertificateChange & Pick<SshCertificateInit, 'keyId' | 'principals'>,
  ): Buffer {
    return this.#sign(this.gateway, this.#init('user', key, change), change);
  }

  #init(
    type: 'user' | 'host',
    key: KeyObject | Uint8Array,
    named: Pick<SshCertificateInit, 'keyId' | 'principals'>,
  ): SshCertificateInit {
    const now = this.#clock.now().getTime();
    return {
      ...{ type, publicKey: key instanceof Uint8Array ? key : encodePublicKey(key) },
      ...{ keyId: named.keyId, principals: named.principals },
      serial: randomBytes(8).readBigUInt64BE() >> 1n,
      validAfter: new Date(now - SKEW_MS),
      validBefore: new Date(now + TTL_MS[type]),
    };
  }

  #sign(usual: KeyObject, init: SshCertificateInit, change: CertificateChange = {}): Buffer {
    const { authority = usual, ...changes } = change;
    return signSshCertificate({ ...init, ...changes }, authority);
  }
}

function newKey(): KeyObject {
  return generateKeyPairSync('ed25519').privateKey;
}
