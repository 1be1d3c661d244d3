/** Ways to get a token of a fake Vault. */
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose';
import { invalid } from './vault-errors.ts';
import type { FakeToken, FakeTokens, TokenWish } from './vault-tokens.ts';

export interface AppRole {
  readonly roleId: string;
  /** How often each may still be used; undefined: the role asks for none. */
  readonly secretIds: Map<string, number> | undefined;
  readonly token: TokenWish;
}

export interface JwtRole {
  readonly audience: string;
  readonly subject: string;
  readonly keys: () => JSONWebKeySet;
  readonly token: TokenWish;
}

export type AuthMount =
  | { readonly type: 'approle'; readonly roles: readonly AppRole[] }
  | { readonly type: 'jwt'; readonly roles: Readonly<Record<string, JwtRole>> };

type Body = Readonly<Record<string, unknown>>;

/** @throws VaultRefusal 400 */
export function logInAt(mount: AuthMount, body: Body, tokens: FakeTokens): Promise<FakeToken> {
  return mount.type === 'approle'
    ? byAppRole(mount.roles, body, tokens)
    : byJwt(mount.roles, body, tokens);
}

async function byAppRole(
  roles: readonly AppRole[],
  { role_id: roleId, secret_id: secretId }: Body,
  tokens: FakeTokens,
): Promise<FakeToken> {
  const role = roles.find((one) => one.roleId === roleId);
  if (role === undefined) throw invalid('invalid role or secret ID');
  if (role.secretIds !== undefined) {
    const left = typeof secretId === 'string' ? role.secretIds.get(secretId) : undefined;
    if (left === undefined || left === 0) throw invalid('invalid role or secret ID');
    role.secretIds.set(String(secretId), left - 1);
  }
  return tokens.create(role.token);
}

async function byJwt(
  roles: Readonly<Record<string, JwtRole>>,
  { role: name, jwt }: Body,
  tokens: FakeTokens,
): Promise<FakeToken> {
  const role = typeof name === 'string' ? roles[name] : undefined;
  if (role === undefined) throw invalid(`role "${String(name)}" could not be found`);
  if (typeof jwt !== 'string') throw invalid('missing token');
  const { audience, subject } = role;
  try {
    await jwtVerify(jwt, createLocalJWKSet(role.keys()), { audience, subject });
  } catch {
    throw invalid(
      'error validating token: no known key successfully validated the token signature',
    );
  }
  return tokens.create(role.token);
}
