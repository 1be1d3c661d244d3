import { createPublicKey, type KeyObject, randomUUID } from 'node:crypto';
import { type Bundle, makeBundle, x509Authority } from '../../identity/bundle.ts';
import { signJwtSvid } from '../../identity/jwt-svid.ts';
import type { SpiffeId, TrustDomain } from '../../identity/spiffe-id.ts';
import { createSelfSignedCa } from '../../identity/x509/ca.ts';
import { generateKey, spkiOf } from '../../identity/x509/key.ts';
import { leafSigner } from '../../identity/x509/leaf.ts';
import { type X509Svid, x509Svid } from '../../identity/x509-svid.ts';
import { Watched } from '../../runtime/watched.ts';

/** Signs for one trust domain, by an authority that can be replaced. */
export class FakeAuthority {
  readonly trustDomain: TrustDomain;
  readonly bundle: Watched<Bundle>;
  readonly #jwtKey: KeyObject;
  #signer: ReturnType<typeof leafSigner>;

  private constructor(bundle: Bundle, signer: ReturnType<typeof leafSigner>, jwtKey: KeyObject) {
    this.trustDomain = bundle.trustDomain;
    this.bundle = new Watched(bundle);
    this.#signer = signer;
    this.#jwtKey = jwtKey;
  }

  static async create(trustDomain: TrustDomain): Promise<FakeAuthority> {
    const jwtKey = await generateKey('ec-p256');
    const ca = await newCa(trustDomain);
    const jwt = [
      { keyId: 'jwt-1', publicKey: createPublicKey(jwtKey), expiresAt: undefined, tainted: false },
    ];
    const bundle = makeBundle({ trustDomain, x509: [ca.certificate], jwt, sequenceNumber: 1n });
    return new FakeAuthority(bundle, leafSigner(ca), jwtKey);
  }

  /** Signs with a new authority from now on; the old ones stay in the bundle, tainted or not. */
  async rotate(options: { readonly taintOld: boolean }): Promise<void> {
    const ca = await newCa(this.trustDomain);
    this.#signer = leafSigner(ca);
    const old = this.bundle.value.x509Authorities.map(({ der }) =>
      x509Authority(der, options.taintOld),
    );
    this.#setAuthorities([x509Authority(ca.certificate), ...old]);
  }

  /** Takes all but the newest authority out of the bundle. */
  revokeOld(): void {
    this.#setAuthorities(this.bundle.value.x509Authorities.slice(0, 1));
  }

  sign(id: SpiffeId, spki: Uint8Array, ttlMs: number): Uint8Array {
    const now = new Date();
    const notAfter = new Date(now.getTime() + ttlMs);
    return this.#signer.sign({ spki, uri: id, dnsNames: [], notAfter, now }).der;
  }

  /** An SVID with a key of its own. */
  async issue(
    id: SpiffeId,
    options: { readonly ttlMs?: number; readonly hint?: string } = {},
  ): Promise<X509Svid> {
    const key = await generateKey('ec-p256');
    return x509Svid(
      [this.sign(id, spkiOf(key), options.ttlMs ?? 3_600_000)],
      key,
      options.hint ?? '',
    );
  }

  signJwt(id: SpiffeId, audience: readonly string[], ttlMs: number) {
    const issuedAt = new Date();
    const expiresAt = new Date(issuedAt.getTime() + ttlMs);
    const parts = { id, audience, issuedAt, expiresAt, keyId: 'jwt-1', key: this.#jwtKey };
    return { token: signJwtSvid({ ...parts, jti: randomUUID() }), issuedAt, expiresAt };
  }

  #setAuthorities(x509: Bundle['x509Authorities']): void {
    const { trustDomain, jwtAuthorities, sequenceNumber } = this.bundle.value;
    const next = { trustDomain, x509, jwt: jwtAuthorities, sequenceNumber: sequenceNumber + 1n };
    this.bundle.set(makeBundle(next));
  }
}

async function newCa(trustDomain: TrustDomain) {
  const now = new Date();
  const notAfter = new Date(now.getTime() + 24 * 3_600_000);
  return await createSelfSignedCa({ trustDomain, keyType: 'ec-p256', now, notAfter });
}
