/** What a PostgreSQL backend's document says of the gateway's login and of TLS. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import * as v from 'valibot';
import {
  type BackendTlsSchema,
  ChannelBinding,
  type LoginCredentialSchema,
  type PostgresBackendSchema,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { absolutePath, durationSeconds } from '../../../runtime/config.ts';
import { isHost, resourceName } from './document-fields.ts';
import { sqlName } from './postgres-names.ts';
import { vaultDatabase, vaultDatabaseMessage, vaultKv, vaultKvMessage } from './vault-schema.ts';

const variable = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'the name of an environment variable'),
);

const A_YEAR_SECONDS = 366 * 24 * 3600;
const AN_HOUR_SECONDS = 3600;

const loginFields = v.strictObject({
  user: sqlName,
  password_file: v.optional(absolutePath),
  password_env: v.optional(variable),
  password_secret: v.optional(resourceName),
  vault_kv: v.optional(vaultKv),
  vault_database: v.optional(vaultDatabase),
  rotate_every: v.optional(
    v.pipe(
      durationSeconds(A_YEAR_SECONDS),
      v.minValue(AN_HOUR_SECONDS, 'a duration of at least 1h'),
    ),
  ),
});

const login = v.pipe(
  loginFields,
  v.forward(
    v.check(
      (one) => one.rotate_every === undefined || one.password_secret !== undefined,
      'rotate_every with password_secret alone',
    ),
    ['rotate_every'],
  ),
);

const tls = v.pipe(
  v.strictObject({
    ca_file: absolutePath,
    server_name: v.pipe(v.string(), v.check(isHost, 'a host name or IP address')),
    client_certificate_file: v.optional(absolutePath),
    client_key_file: v.optional(absolutePath),
    channel_binding: v.optional(v.picklist(['prefer', 'require'], 'prefer or require'), 'prefer'),
  }),
  v.forward(
    v.check(
      ({ client_certificate_file: certificate, client_key_file: key }) =>
        (certificate === undefined) === (key === undefined),
      'a client_key_file where there is a client_certificate_file, and there alone',
    ),
    ['client_key_file'],
  ),
);

/** `login` and `tls`. */
export const postgresLoginFields = { login, tls: v.optional(tls) };

type Fields = v.InferOutput<v.StrictObjectSchema<typeof postgresLoginFields, undefined>>;

/** Whether the login names one source, or none where a client certificate stands for it. */
export function hasOneLogin({ login, tls }: Pick<Fields, 'login' | 'tls'>): boolean {
  const { user: _, rotate_every: __, ...sources } = login;
  const named = Object.keys(sources).length;
  return named === 1 || (named === 0 && tls?.client_certificate_file !== undefined);
}

export const ONE_LOGIN_MESSAGE =
  'one of password_file, password_env, password_secret, vault_kv and vault_database, or a client certificate';

/** Sessions of a shared account would be cut when a login that was made for a while ends. */
export function keepsSharedLogin({
  login,
  enforce,
}: Pick<Fields, 'login'> & { readonly enforce: 'database' | 'gateway' }): boolean {
  return enforce !== 'gateway' || login.vault_database?.role === undefined;
}

export const SHARED_LOGIN_MESSAGE =
  'a static_role where enforce is gateway: sessions share the login, and a dynamic one ends';

/** The fields of the backend's message. */
export function postgresLogin({
  login,
  tls,
}: Pick<Fields, 'login' | 'tls'>): Pick<
  MessageInitShape<typeof PostgresBackendSchema>,
  'loginUser' | 'loginPasswordFile' | 'loginCredential' | 'tls'
> {
  const source = credentialSource(login);
  return {
    loginUser: login.user,
    ...(login.password_file !== undefined && { loginPasswordFile: login.password_file }),
    ...(source && { loginCredential: { source, ...rotation(login) } }),
    ...(tls && { tls: backendTls(tls) }),
  };
}

function rotation({ rotate_every: every }: Fields['login']) {
  return every === undefined ? {} : { rotateEvery: { seconds: BigInt(every) } };
}

type Source = NonNullable<MessageInitShape<typeof LoginCredentialSchema>['source']>;

function credentialSource(from: Fields['login']): Source | undefined {
  if (from.password_env !== undefined) return { case: 'environment', value: from.password_env };
  if (from.password_secret !== undefined) return { case: 'secret', value: from.password_secret };
  if (from.vault_kv !== undefined) {
    return { case: 'vaultKv', value: vaultKvMessage(from.vault_kv) };
  }
  return from.vault_database === undefined
    ? undefined
    : { case: 'vaultDatabase', value: vaultDatabaseMessage(from.vault_database) };
}

function backendTls(from: NonNullable<Fields['tls']>): MessageInitShape<typeof BackendTlsSchema> {
  const { client_certificate_file: certificate = '', client_key_file: key = '' } = from;
  return {
    caFile: from.ca_file,
    serverName: from.server_name,
    clientCertificateFile: certificate,
    clientKeyFile: key,
    channelBinding:
      from.channel_binding === 'require' ? ChannelBinding.REQUIRE : ChannelBinding.UNSPECIFIED,
  };
}
