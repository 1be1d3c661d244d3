/**
 * What this gateway proves itself by to SSH clients: host certificates over its one host key, for itself
 * and for each backend that it stands for. Signed by the server, renewed when half of their life is over.
 */
import type { KeyObject } from 'node:crypto';
import { parseSshCertificate } from '../../../../identity/ssh/certificate.ts';
import { encodePublicKey } from '../../../../identity/ssh/public-key.ts';
import type { Clock } from '../../../../runtime/clock.ts';
import { Fault } from '../../../../runtime/fault.ts';
import type { CallOptions } from '../../../../runtime/grpc-client.ts';
import type { Logger } from '../../../../runtime/log.ts';

/** The server's call, of `GatewayApi`. */
export interface HostSigner {
  signSshHostCertificate(
    request: { readonly publicKey: Uint8Array; readonly backend: string },
    options: CallOptions,
  ): Promise<{ readonly certificate: Uint8Array }>;
}

export interface HostCertificatesOptions {
  readonly key: KeyObject;
  readonly api: () => HostSigner;
  readonly clock: Clock;
  readonly log: Logger;
  /** Aborts when the gateway stops. */
  readonly signal: AbortSignal;
}

interface Held {
  readonly certificate: Uint8Array;
  readonly renewAt: Date;
  readonly expiresAt: Date;
}

/** The name of the gateway's own. */
const ITSELF = '';
const SIGN_TIMEOUT_MS = 5000;
/** Before its end a certificate is shown no more: the client's clock may be ahead. */
const MARGIN_MS = 60_000;
const RETRY_MS = 10_000;

export class HostCertificates {
  readonly #options: HostCertificatesOptions;
  readonly #publicKey: Buffer;
  readonly #held = new Map<string, Held>();
  readonly #asking = new Map<string, Promise<Held>>();
  /** After a failure, on the monotonic clock. */
  readonly #quietUntilMs = new Map<string, number>();

  constructor(options: HostCertificatesOptions) {
    this.#options = options;
    this.#publicKey = encodePublicKey(options.key);
  }

  /** For the gateway's own names. @throws Fault UNAVAILABLE */
  own(): Promise<Uint8Array> {
    return this.#get(ITSELF);
  }

  /** @param backend one of the snapshot's @throws Fault UNAVAILABLE */
  of(backend: string): Promise<Uint8Array> {
    if (backend === ITSELF) throw new Error('a backend without a name');
    return this.#get(backend);
  }

  async #get(name: string): Promise<Uint8Array> {
    const now = this.#options.clock.now();
    const held = this.#held.get(name);
    if (held === undefined || now.getTime() >= held.expiresAt.getTime() - MARGIN_MS) {
      return (await this.#ask(name)).certificate;
    }
    if (now >= held.renewAt && this.#mayAsk(name)) this.#ask(name).catch(() => undefined);
    return held.certificate;
  }

  #mayAsk(name: string): boolean {
    const quietUntilMs = this.#quietUntilMs.get(name) ?? 0;
    return this.#options.clock.monotonicMs() >= quietUntilMs;
  }

  /** One call at a time for each name. */
  #ask(name: string): Promise<Held> {
    const asking = this.#asking.get(name) ?? this.#sign(name);
    this.#asking.set(name, asking);
    return asking;
  }

  async #sign(name: string): Promise<Held> {
    const { api, clock, log, signal } = this.#options;
    try {
      const { certificate } = await api().signSshHostCertificate(
        { publicKey: this.#publicKey, backend: name },
        { signal, timeoutMs: SIGN_TIMEOUT_MS },
      );
      const held = this.#read(certificate);
      this.#forgetExpired();
      this.#held.set(name, held);
      this.#quietUntilMs.delete(name);
      return held;
    } catch (cause) {
      this.#quietUntilMs.set(name, clock.monotonicMs() + RETRY_MS);
      log.warn({ backend: name, err: cause }, 'host certificate could not be had');
      throw new Fault('UNAVAILABLE', 'the gateway has no host certificate: try again', { cause });
    } finally {
      this.#asking.delete(name);
    }
  }

  /** The server's answer must be about what was asked. */
  #read(blob: Uint8Array): Held {
    const certificate = parseSshCertificate(blob);
    const { type, publicKey, validAfter, validBefore } = certificate;
    if (type !== 'host' || !publicKey.equals(this.#publicKey)) {
      throw new Error('SignSshHostCertificate was answered with another certificate');
    }
    const now = this.#options.clock.now().getTime();
    const startMs = Math.max(now, validAfter.getTime());
    const renewAt = new Date(startMs + (validBefore.getTime() - startMs) / 2);
    return { certificate: certificate.blob, renewAt, expiresAt: validBefore };
  }

  #forgetExpired(): void {
    const now = this.#options.clock.now();
    for (const [name, { expiresAt }] of this.#held) {
      if (now >= expiresAt) this.#held.delete(name);
    }
  }
}
