/**
 * Node attestor `oidc`: shows an ID token from a file that somebody else keeps fresh. Such a token does
 * not carry the server's nonce, so it must be two minutes old at most, and counts once.
 */
import type { NodeAttestor } from './node-attestor.ts';
import { readTokenFile } from './token-file.ts';

export interface OidcNodeOptions {
  /** The issuer's name in the server's configuration. */
  readonly provider: string;
  /** Read at each attestation. */
  readonly tokenFile: string;
}

export function oidcNodeAttestor({ provider, tokenFile }: OidcNodeOptions): NodeAttestor {
  return {
    type: 'oidc',
    canReattest: true,
    evidence: async () => Buffer.from(JSON.stringify({ provider })),
    answer: async () => Buffer.from(await readTokenFile(tokenFile)),
  };
}
