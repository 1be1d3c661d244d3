/** What a document says of a HashiCorp Vault or OpenBao server, and of what is read there. */
import { isIPv4 } from 'node:net';
import type { MessageInitShape } from '@bufbuild/protobuf';
import * as v from 'valibot';
import type {
  VaultDatabaseSchema,
  VaultKvSchema,
  VaultServerSchema,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { absolutePath } from '../../../runtime/config.ts';
import { sentence } from './document-fields.ts';

const MOUNT = /^[A-Za-z0-9_][A-Za-z0-9_.-]*(\/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$/;
const LONGEST_PATH = 512;

const enginePath = v.pipe(
  v.string(),
  v.maxLength(LONGEST_PATH, `at most ${LONGEST_PATH} characters`),
  v.regex(MOUNT, 'a path such as secret or teams/shop, without / at its ends'),
);

/** Names of secrets are freer than those of mounts; each segment is encoded when it is asked for. */
const secretPath = v.pipe(
  v.string(),
  v.maxLength(LONGEST_PATH, `at most ${LONGEST_PATH} characters`),
  v.check(
    (path) =>
      /^[^\p{Cc}]+$/u.test(path) &&
      path.split('/').every((segment) => segment !== '' && !/^[.]{1,2}$/.test(segment)),
    'a path such as db/shop, without / at its ends',
  ),
);

const roleName = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/, 'a role name'));

const roleId = v.pipe(v.string(), v.regex(/^[\x21-\x7e]{1,256}$/, 'a role ID'));

const auth = v.pipe(
  v.strictObject({
    approle: v.optional(
      v.strictObject({
        mount: v.optional(enginePath, 'approle'),
        role_id: roleId,
        secret_id_file: v.optional(absolutePath),
      }),
    ),
    token_file: v.optional(absolutePath),
    jwt: v.optional(
      v.strictObject({
        mount: v.optional(enginePath, 'jwt'),
        role: roleName,
        audience: v.optional(sentence, 'vault'),
      }),
    ),
  }),
  v.check((all) => Object.keys(all).length === 1, 'one of approle, token_file and jwt'),
);

const vaultFields = {
  address: v.pipe(
    v.string(),
    v.check(isVaultAddress, 'https://host:port, or http for a loopback host'),
  ),
  namespace: v.optional(enginePath),
  ca_file: v.optional(absolutePath),
  auth,
};

type Server = v.InferOutput<v.StrictObjectSchema<typeof vaultFields, undefined>>;

const isProved = ({ address, ca_file: caFile }: Pick<Server, 'address' | 'ca_file'>): boolean =>
  address.startsWith('https:') === (caFile !== undefined);
const PROVED = 'a ca_file where the address is https, and there alone';

export const vaultKv = v.pipe(
  v.strictObject({
    ...vaultFields,
    mount: v.optional(enginePath, 'secret'),
    path: secretPath,
    field: v.optional(sentence, 'password'),
  }),
  v.forward(
    v.check((server) => isProved(server), PROVED),
    ['ca_file'],
  ),
);

export const vaultDatabase = v.pipe(
  v.strictObject({
    ...vaultFields,
    mount: v.optional(enginePath, 'database'),
    role: v.optional(roleName),
    static_role: v.optional(roleName),
  }),
  v.forward(
    v.check((server) => isProved(server), PROVED),
    ['ca_file'],
  ),
  v.check(
    ({ role, static_role: staticRole }) => (role === undefined) !== (staticRole === undefined),
    'either a role or a static_role',
  ),
);

/** An origin alone: what is asked for there is the engine's matter. */
function isVaultAddress(text: string): boolean {
  if (!/^https?:\/\/[^/?#@\s]+\/?$/.test(text) || !URL.canParse(text)) return false;
  const { protocol, hostname } = new URL(text);
  return protocol === 'https:' || isLoopback(hostname);
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || (isIPv4(host) && host.startsWith('127.'));
}

export function vaultKvMessage(
  document: v.InferOutput<typeof vaultKv>,
): MessageInitShape<typeof VaultKvSchema> {
  const { mount, path, field } = document;
  return { server: vaultServer(document), mount, path, field };
}

export function vaultDatabaseMessage(
  document: v.InferOutput<typeof vaultDatabase>,
): MessageInitShape<typeof VaultDatabaseSchema> {
  const { mount, role, static_role: staticRole } = document;
  return {
    server: vaultServer(document),
    mount,
    role: role ?? staticRole ?? '',
    static: staticRole !== undefined,
  };
}

function vaultServer({
  address,
  namespace = '',
  ca_file: caFile = '',
  auth: { approle, jwt, token_file: tokenFile },
}: Server): MessageInitShape<typeof VaultServerSchema> {
  return {
    address: new URL(address).origin,
    namespace,
    caFile,
    auth:
      approle !== undefined
        ? {
            case: 'appRole',
            value: {
              mount: approle.mount,
              roleId: approle.role_id,
              secretIdFile: approle.secret_id_file ?? '',
            },
          }
        : jwt !== undefined
          ? { case: 'jwt', value: jwt }
          : { case: 'tokenFile', value: tokenFile ?? '' },
  };
}
