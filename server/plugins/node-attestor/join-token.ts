/**
 * Node attestor `join_token`: an agent presents a secret that an operator minted for one node.
 *
 * A leaked token is worth one agent until it expires, so: the store holds only its SHA-256, spending
 * it is one atomic step, and the agent's SPIFFE ID carries the token's public handle. (SPIRE's
 * carries the token itself.)
 */
import { SpiffeId, type TrustDomain } from '../../../identity/spiffe-id.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { Fault } from '../../../runtime/fault.ts';
import type { AttestExchange, AttestedNode, NodeAttestor } from './node-attestor.ts';

/** What this attestor needs of the store, and no more. */
export interface JoinTokenStore {
  /** Removes and returns the token, in one transaction; undefined if there is none. */
  take(token: Uint8Array, signal: AbortSignal): Promise<JoinToken | undefined>;
}

export interface JoinToken {
  /** Public name of the token, safe in logs and SPIFFE IDs; one path segment. */
  readonly handle: string;
  readonly expiresAt: Date;
}

export interface JoinTokenOptions {
  readonly trustDomain: TrustDomain;
  readonly tokens: JoinTokenStore;
  readonly clock: Clock;
}

/** Begins with SPIRE's words, which scripts look for in an agent's log. */
const REFUSED =
  'failed to attest: join token does not exist or has already been used, or it has expired';

export function joinTokenAttestor(options: JoinTokenOptions): NodeAttestor {
  const { trustDomain, tokens, clock } = options;

  async function attest(evidence: Uint8Array, exchange: AttestExchange): Promise<AttestedNode> {
    const token = await tokens.take(evidence, exchange.signal);
    // One answer for unknown, spent and expired: which of them it was is for the audit log alone.
    if (token === undefined) throw denied('no such token');
    if (token.expiresAt <= clock.now()) throw denied(`token ${token.handle} has expired`);
    return {
      agentId: SpiffeId.fromSegments(trustDomain, 'spire', 'agent', 'join_token', token.handle),
      selectors: [],
      canReattest: false,
    };
  }

  return { type: 'join_token', attest };
}

function denied(reason: string): Fault {
  return new Fault('JOIN_TOKEN_INVALID', REFUSED, { cause: reason });
}
