/**
 * Node attestor `oidc`: a CI job, or anything that an OpenID Connect issuer vouches for, shows an ID
 * token. Both halves are Writ's own; on the wire:
 *
 * - agent: `{"provider": "<name of a configured issuer>"}`
 * - server: `{"audience": "<the configured audience>#<nonce>"}`
 * - agent: the token. One that was minted for the audience of the challenge is fresh by its nonce. One
 *   whose only audience is the configured one must have a `jti`, which is taken once, and be at most
 *   two minutes old (threats S11).
 */
import { randomBytes } from 'node:crypto';
import * as v from 'valibot';
import type { TrustDomain } from '../../../identity/spiffe-id.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { Fault } from '../../../runtime/fault.ts';
import { IssuerKeys, type JwksSource, jwksByDiscovery, jwksFromFile, jwksFromUrl } from './jwks.ts';
import type { AttestExchange, AttestedNode, NodeAttestor } from './node-attestor.ts';
import { oidcAgentId } from './oidc-agent-id.ts';
import type { OidcConfig, OidcIssuerConfig } from './oidc-config.ts';
import { PRESETS } from './oidc-presets.ts';
import { type MatchedClaim, matchRules } from './oidc-rules.ts';
import { denied, requireYoung, SKEW_MS, type VerifiedToken, verifyToken } from './oidc-token.ts';

const NONCE_BYTES = 32;

/** What this attestor needs of the store, and no more. */
export interface SpentTokenStore {
  /**
   * Takes a token once: false if it has been taken before.
   * @param token `id` is the issuer's; it is forgotten at `expiresAt`, when it is refused anyway
   */
  spend(token: SpentToken): Promise<boolean>;
}

export interface SpentToken {
  readonly issuer: string;
  readonly id: string;
  readonly expiresAt: Date;
}

export interface OidcOptions {
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly tokens: SpentTokenStore;
  readonly issuers: OidcConfig['issuers'];
}

interface Provider {
  readonly config: OidcIssuerConfig;
  readonly issuer: string;
  readonly keys: IssuerKeys;
}

const helloSchema = v.strictObject({ provider: v.pipe(v.string(), v.maxLength(63)) });

export function oidcAttestor(options: OidcOptions): NodeAttestor {
  const providers = new Map(
    options.issuers.map((config) => [config.name, providerOf(config, options.clock)]),
  );

  async function attest(evidence: Uint8Array, exchange: AttestExchange): Promise<AttestedNode> {
    const provider = providers.get(readHello(evidence));
    if (provider === undefined) throw denied('no issuer of that name is configured');
    const { config, issuer, keys } = provider;
    const audience = `${config.audience}#${randomBytes(NONCE_BYTES).toString('base64url')}`;
    const answer = await exchange.challenge(Buffer.from(JSON.stringify({ audience })));
    const now = options.clock.now();
    const text = Buffer.from(answer).toString('latin1');
    const token = await verifyToken(text, { issuer, keys, now });
    const carriesNonce = token.audience.includes(audience);
    if (!carriesNonce) requireOnce(token, config.audience, now);
    const claims = matchRules(token.claims, config);
    if (!carriesNonce) await spend(options.tokens, issuer, token);
    const isPerToken = config.agent_per === 'token';
    return {
      agentId: oidcAgentId(options.trustDomain, config.name, [
        ...claims,
        ...(isPerToken ? [tokenName(token)] : []),
      ]),
      selectors: [
        `issuer:${config.name}`,
        ...claims.map(({ name, value }) => `claim:${name}:${value}`),
      ],
      // Who cannot mint a token when it is due could not come back.
      canReattest: carriesNonce && !isPerToken,
    };
  }

  return { type: 'oidc', attest };
}

function providerOf(config: OidcIssuerConfig, clock: Clock): Provider {
  const issuer = config.issuer ?? PRESETS[config.preset].issuer;
  if (issuer === undefined) throw new Error('the configuration was not checked');
  return { config, issuer, keys: new IssuerKeys({ source: sourceOf(issuer, config), clock }) };
}

function sourceOf(issuer: string, config: OidcIssuerConfig): JwksSource {
  const { jwks_file: file, jwks_url: url, ca_file: caFile } = config;
  if (file !== undefined) return jwksFromFile(file);
  return url === undefined ? jwksByDiscovery(issuer, caFile) : jwksFromUrl(new URL(url), caFile);
}

function readHello(evidence: Uint8Array): string {
  try {
    return v.parse(helloSchema, JSON.parse(Buffer.from(evidence).toString('utf8'))).provider;
  } catch (cause) {
    throw new Fault('INVALID_ARGUMENT', 'the attestation payload names no provider', { cause });
  }
}

/** A token for several could be shown here by any of the others. */
function requireOnce(token: VerifiedToken, audience: string, now: Date): void {
  if (token.audience.length !== 1 || token.audience[0] !== audience)
    throw denied('it is neither for this exchange nor for the configured audience alone');
  if (token.jti === undefined) throw denied('without our nonce it needs a jti, and has none');
  requireYoung(token, now);
}

async function spend(
  tokens: SpentTokenStore,
  issuer: string,
  { jti, expiresAt }: VerifiedToken,
): Promise<void> {
  const until = new Date(expiresAt.getTime() + SKEW_MS);
  if (jti !== undefined && (await tokens.spend({ issuer, id: jti, expiresAt: until }))) return;
  throw denied('it has been used before');
}

function tokenName({ jti, digest }: VerifiedToken): MatchedClaim {
  return jti === undefined ? { name: 'sha256', value: digest } : { name: 'jti', value: jti };
}
