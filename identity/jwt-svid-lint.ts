/**
 * The last look at a token before it is recorded and given out: it is read back, and says what was asked
 * for and nothing else. One that breaks a rule is a bug of ours, so it never leaves. Whether the signature
 * verifies is not looked at.
 *
 * Source: JWT-SVID 2 and 3; stricter where we issue in one form only.
 */
import type { KeyObject } from 'node:crypto';
import { type CompactJws, readCompactJws } from './compact-jws.ts';
import { type JwtSvidInit, tokenAlgorithm } from './jwt-svid.ts';

/** What was asked for, and the key that signs. */
export interface ExpectedJwt extends JwtSvidInit {
  readonly publicKey: KeyObject;
  readonly now: Date;
}

interface Token extends Pick<CompactJws, 'alg' | 'keyId' | 'claims'> {
  readonly header: object;
}

/** The name of a rule, and whether it is broken. */
type Rule = readonly [name: string, isBroken: (token: Token, expected: ExpectedJwt) => boolean];

const HEADER = ['alg', 'kid', 'typ'];
const FORM = { headers: new Set(HEADER), types: new Set(['JWT']) };
const CLAIMS = ['aud', 'exp', 'iat', 'sub'];

const RULES: readonly Rule[] = [
  ['algorithm, key id and type as header', ({ header }) => !hasExactly(header, HEADER)],
  ['algorithm of the authority', ({ alg }, { publicKey }) => alg !== tokenAlgorithm(publicKey).alg],
  ['key id of the authority', (token, { keyId }) => token.keyId !== keyId],
  ['SPIFFE ID as asked for', ({ claims }, { id }) => claims.sub !== id.toString()],
  ['SPIFFE ID with a path', (_, { id }) => id.path === ''],
  ['an audience', (_, { audience }) => audience.length === 0],
  ['audience as asked for', ({ claims }, { audience }) => !sameList(claims.aud, audience)],
  ['end as asked for', ({ claims }, { expiresAt }) => claims.exp !== seconds(expiresAt)],
  ['end to come', (_, { expiresAt, now }) => expiresAt <= now],
  ['issued as asked for', ({ claims }, { issuedAt }) => claims.iat !== seconds(issuedAt)],
  ['issued before now', (_, { issuedAt, now }) => issuedAt > now],
  ['token id as asked for', ({ claims }, { jti }) => claims.jti !== jti],
  ['issuer as asked for', ({ claims }, { issuer }) => claims.iss !== issuer],
  ['no other claim', ({ claims }, asked) => !hasExactly(claims, claimsOf(asked))],
];

/** @throws Error that names the rule which the token breaks */
export function lintJwtSvid(token: string, expected: ExpectedJwt): void {
  const read = tokenOf(token);
  for (const [name, isBroken] of RULES)
    if (isBroken(read, expected)) throw new Error(`a token was made that breaks a rule: ${name}`);
}

function tokenOf(token: string): Token {
  try {
    const { alg, keyId, claims } = readCompactJws(token, FORM);
    const [head = ''] = token.split('.', 1);
    const header: unknown = JSON.parse(Buffer.from(head, 'base64url').toString());
    return { alg, keyId, claims, header: Object(header) };
  } catch (cause) {
    throw new Error('a token was made that cannot be read', { cause });
  }
}

function claimsOf({ jti, issuer }: ExpectedJwt): string[] {
  return [
    ...CLAIMS,
    ...(jti === undefined ? [] : ['jti']),
    ...(issuer === undefined ? [] : ['iss']),
  ];
}

function hasExactly(found: object, names: readonly string[]): boolean {
  const own = Object.keys(found);
  return own.length === names.length && names.every((name) => own.includes(name));
}

function sameList(found: unknown, wanted: readonly string[]): boolean {
  if (!Array.isArray(found) || found.length !== wanted.length) return false;
  return wanted.every((one, at) => one === found[at]);
}

function seconds(at: Date): number {
  return Math.floor(at.getTime() / 1000);
}
