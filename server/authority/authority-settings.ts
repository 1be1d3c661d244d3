import type { KeyType } from '../../identity/x509/key.ts';
import type { ServerConfig } from '../config.ts';
import type { AuthorityKind } from './authority-rows.ts';

/** What new authorities are to be; those that are there keep what they are. */
export interface AuthoritySettings {
  /** Of X.509 and JWT authorities. */
  readonly ttlSeconds: number;
  readonly sshTtlSeconds: number;
  readonly x509KeyType: KeyType;
  readonly jwtKeyType: KeyType;
}

const DAY_SECONDS = 24 * 60 * 60;

export const DEFAULT_SETTINGS: AuthoritySettings = {
  ttlSeconds: DAY_SECONDS,
  sshTtlSeconds: 3650 * DAY_SECONDS,
  x509KeyType: 'ec-p256',
  jwtKeyType: 'ec-p256',
};

/** What the configuration says. */
export function authoritySettings({
  ca,
  jwt,
}: Pick<ServerConfig, 'ca' | 'jwt'>): AuthoritySettings {
  return {
    ttlSeconds: ca.ttl,
    sshTtlSeconds: ca.ssh_ttl,
    x509KeyType: ca.key_type,
    jwtKeyType: jwt.key_type,
  };
}

/** What is set for one kind. */
export function settingsOf(
  kind: AuthorityKind,
  { ttlSeconds, sshTtlSeconds, x509KeyType, jwtKeyType }: AuthoritySettings,
): { readonly keyType: KeyType; readonly lifetimeMs: number } {
  if (kind === 'x509') return { keyType: x509KeyType, lifetimeMs: ttlSeconds * 1000 };
  if (kind === 'jwt') return { keyType: jwtKeyType, lifetimeMs: ttlSeconds * 1000 };
  return { keyType: 'ed25519', lifetimeMs: sshTtlSeconds * 1000 };
}
