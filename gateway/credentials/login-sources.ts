import type { Backend, PostgresBackend } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Logger } from '../../runtime/log.ts';
import { certificateLogin, environmentLogin, fileLogin } from './local-login.ts';
import type { LoginSource } from './login-source.ts';
import { type LoginReader, RefreshedLogin } from './refreshed-login.ts';
import { SecretLogin, type SecretLoginOptions } from './secret-login.ts';
import { VaultDynamicLogin } from './vault/vault-dynamic-login.ts';
import { VaultHttp } from './vault/vault-http.ts';
import { VaultKvLogin } from './vault/vault-kv-login.ts';
import { VaultStaticLogin } from './vault/vault-static-login.ts';
import { type FetchJwtSvid, VaultToken } from './vault/vault-token.ts';

export interface LoginParts {
  readonly jwtSvid: FetchJwtSvid;
  readonly api: SecretLoginOptions['api'];
  readonly snapshot: SecretLoginOptions['snapshot'];
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Where the gateway's login to a backend comes from, as the backend's document says.
 * @throws Error for a source that this gateway does not know: a newer server names it
 */
export function loginSource(
  { name }: Pick<Backend, 'name'>,
  backend: Pick<PostgresBackend, 'loginUser' | 'loginPasswordFile' | 'loginCredential' | 'tls'>,
  parts: LoginParts,
): LoginSource {
  const { loginUser: user, loginPasswordFile: file, loginCredential, tls } = backend;
  if (loginCredential === undefined) {
    if (file !== '') return fileLogin(user, file);
    if (tls !== undefined && tls.clientCertificateFile !== '') return certificateLogin(user);
    throw new Error(`backend ${name} names no login`);
  }
  const { source } = loginCredential;
  if (source.case === 'environment') return environmentLogin(user, source.value);
  if (source.case === 'secret') return new SecretLogin({ ...parts, backend: name });
  const { clock, log } = parts;
  return new RefreshedLogin({
    reader: reader(name, user, source, parts),
    backend: name,
    clock,
    log,
  });
}

type Source = NonNullable<PostgresBackend['loginCredential']>['source'];

function reader(backend: string, user: string, source: Source, parts: LoginParts): LoginReader {
  switch (source.case) {
    case 'vaultKv': {
      const { server } = source.value;
      return new VaultKvLogin(source.value, user, vaultToken(server, parts));
    }
    case 'vaultDatabase': {
      const database = source.value;
      const token = vaultToken(database.server, parts);
      return database.static
        ? new VaultStaticLogin(database, token)
        : new VaultDynamicLogin({ ...parts, database, token, backend });
    }
    default:
      throw new Error(`backend ${backend} names a source for its login that is not known here`);
  }
}

type Server = NonNullable<Extract<Source, { case: 'vaultKv' }>['value']['server']>;

function vaultToken(server: Server | undefined, { jwtSvid, clock }: LoginParts): VaultToken {
  if (server === undefined) throw new Error('a Vault source names no server');
  return new VaultToken({ http: new VaultHttp(server), server, jwtSvid, clock });
}
