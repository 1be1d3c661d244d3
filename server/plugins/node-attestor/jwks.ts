/** The keys of a token issuer, as its JSON Web Key Set tells them. */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { isTokenAlgorithm, isTokenKey } from '../../../identity/compact-jws.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { Fault } from '../../../runtime/fault.ts';
import { httpsJson } from '../../../runtime/https-json.ts';

const MAXIMUM_KEYS = 100;
const MAXIMUM_BYTES = 1024 * 1024;

/** How long keys are used before they are asked for anew: a key that was withdrawn goes within this. */
const KEPT_MS = 60 * 60 * 1000;
/** Between two looks for a key that is not known: whoever makes up key ids must not make us ask. */
const LOOK_AGAIN_MS = 60 * 1000;
const RETRY_MS = 5000;

export interface TokenKey {
  readonly keyId: string;
  /** The only algorithm that it is for, if it says so. */
  readonly alg: string | undefined;
  readonly key: KeyObject;
}

/**
 * The keys of a set that can sign tokens; what is of another kind or for another use is left out.
 * @param json untrusted
 * @throws Error that says what is wrong
 *
 * Source: RFC 7517 4 and 5.
 */
export function parseJwks(json: unknown): readonly TokenKey[] {
  const keys = isRecord(json) ? json.keys : undefined;
  if (!Array.isArray(keys)) throw new Error('no JSON Web Key Set');
  if (keys.length > MAXIMUM_KEYS) throw new Error(`more than ${MAXIMUM_KEYS} keys`);
  return keys.flatMap((key: unknown) => {
    const parsed = isRecord(key) ? tokenKey(key) : undefined;
    return parsed === undefined ? [] : [parsed];
  });
}

function tokenKey(jwk: Record<string, unknown>): TokenKey | undefined {
  const { kid: keyId, kty, use, alg } = jwk;
  if (typeof keyId !== 'string' || keyId === '' || (kty !== 'RSA' && kty !== 'EC'))
    return undefined;
  if (use !== undefined && use !== 'sig') return undefined;
  if (alg !== undefined && !isTokenAlgorithm(alg)) return undefined;
  let key: KeyObject;
  try {
    key = createPublicKey({ key: jwk, format: 'jwk' });
  } catch {
    return undefined;
  }
  return isTokenKey(key) ? { keyId, alg, key } : undefined;
}

/** Reads a set from where it lies. Rejects if it cannot be had now. */
export type JwksSource = () => Promise<unknown>;

export function jwksFromFile(path: string): JwksSource {
  return async () => {
    const bytes = await readFile(path);
    if (bytes.length > MAXIMUM_BYTES) throw new Error('the key set is longer than 1 MiB');
    return JSON.parse(bytes.toString('utf8'));
  };
}

export function jwksFromUrl(url: URL, caFile: string | undefined): JwksSource {
  return async () => {
    const { status, json } = await httpsJson({ url, caFile });
    if (status !== 200) throw new Error(`${url.host} answers status ${status}`);
    return json;
  };
}

/**
 * From where the issuer's own metadata says.
 * @param issuer exactly as its tokens name it
 *
 * Source: OpenID Connect Discovery 4.1 to 4.3.
 */
export function jwksByDiscovery(issuer: string, caFile: string | undefined): JwksSource {
  const wellKnown = new URL(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`);
  return async () => {
    const { status, json } = await httpsJson({ url: wellKnown, caFile });
    if (status !== 200 || !isRecord(json))
      throw new Error(`${wellKnown.host} answers status ${status} and no metadata`);
    if (json.issuer !== issuer) throw new Error('the metadata is of another issuer');
    if (typeof json.jwks_uri !== 'string') throw new Error('the metadata names no keys');
    const url = new URL(json.jwks_uri);
    if (url.protocol !== 'https:') throw new Error('the keys are not offered over https');
    return await jwksFromUrl(url, caFile)();
  };
}

export interface IssuerKeysOptions {
  readonly source: JwksSource;
  readonly clock: Clock;
}

/** An issuer's keys, asked for when they are needed and kept for an hour. */
export class IssuerKeys {
  readonly #options: IssuerKeysOptions;
  #keys: readonly TokenKey[] = [];
  #loadedMs = Number.NEGATIVE_INFINITY;
  #triedMs = Number.NEGATIVE_INFINITY;
  #loading: Promise<void> | undefined;

  constructor(options: IssuerKeysOptions) {
    this.#options = options;
  }

  /**
   * The keys that may have signed a token of this header: none or one, or more if the issuer gave one
   * id to several.
   * @param keyId untrusted
   * @throws Fault UNAVAILABLE if the keys cannot be had
   */
  async find(keyId: string, alg: string): Promise<readonly TokenKey[]> {
    if (this.#age(this.#loadedMs) >= KEPT_MS) await this.#refresh(RETRY_MS);
    const known = this.#known(keyId, alg);
    if (known.length > 0 || this.#age(this.#triedMs) < LOOK_AGAIN_MS) return known;
    await this.#refresh(LOOK_AGAIN_MS);
    return this.#known(keyId, alg);
  }

  #known(keyId: string, alg: string): readonly TokenKey[] {
    return this.#keys.filter(
      (one) => one.keyId === keyId && (one.alg === undefined || one.alg === alg),
    );
  }

  #age(sinceMs: number): number {
    return this.#options.clock.monotonicMs() - sinceMs;
  }

  async #refresh(pauseMs: number): Promise<void> {
    if (this.#loading === undefined && this.#age(this.#triedMs) < pauseMs)
      throw unavailable('they could not be had a moment ago');
    this.#loading ??= this.#load().finally(() => {
      this.#loading = undefined;
    });
    await this.#loading;
  }

  async #load(): Promise<void> {
    const { source, clock } = this.#options;
    this.#triedMs = clock.monotonicMs();
    try {
      this.#keys = parseJwks(await source());
      this.#loadedMs = clock.monotonicMs();
    } catch (error) {
      throw unavailable(reasonOf(error));
    }
  }
}

function reasonOf(error: unknown): string {
  const { cause } = error instanceof Fault ? error : { cause: undefined };
  const message = error instanceof Error ? error.message : String(error);
  return typeof cause === 'string' ? `${message}: ${cause}` : message;
}

function unavailable(reason: string): Fault {
  return new Fault('UNAVAILABLE', 'the keys of the token’s issuer cannot be had now', {
    cause: `keys of the issuer: ${reason}`,
  });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
