import type { JwtAuthority, X509Authority } from '../../../identity/bundle.ts';

/** An intermediate authority that an upstream one has signed. */
export interface MintedAuthority {
  /** DER, our own certificate first, without the root. */
  readonly chain: readonly Uint8Array[];
  /** DER: what verifies the chain, and so belongs into our bundle. */
  readonly roots: readonly Uint8Array[];
}

/** What the upstream trusts. */
export interface UpstreamBundle {
  readonly x509: readonly Pick<X509Authority, 'der' | 'tainted'>[];
  readonly jwt: readonly JwtAuthority[];
}

/** Signs our X.509 authority, so that it need not be a root of its own. Kind: UpstreamAuthority. */
export interface UpstreamAuthority {
  /** Name in configuration, in snake_case. */
  readonly type: string;

  /**
   * @param csrDer PKCS#10 of the new authority's key
   * @param preferredTtlSeconds a wish: the upstream decides
   * @throws Fault UNAVAILABLE if it is out of reach, FAILED_PRECONDITION if it refuses
   */
  mint(
    csrDer: Uint8Array,
    preferredTtlSeconds: number,
    signal: AbortSignal,
  ): Promise<MintedAuthority>;

  /**
   * What the upstream trusts now, then every few seconds, until `signal` aborts. What is tainted is to be
   * replaced; what it no longer has, it has withdrawn.
   */
  watchBundle?(signal: AbortSignal): AsyncIterable<UpstreamBundle>;

  /**
   * Has the upstream publish a key that our JWT-SVIDs are signed with.
   * @returns all JWT keys of the upstream's bundle
   * @throws Fault UNAVAILABLE, FAILED_PRECONDITION
   */
  publishJwtKey?(key: JwtAuthority, signal: AbortSignal): Promise<readonly JwtAuthority[]>;

  /** Ends what it holds open. */
  [Symbol.asyncDispose]?(): Promise<void>;
}
