import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { InferOutput } from 'valibot';
import {
  type BackendSchema,
  type GrantSchema,
  Layout,
  Mask,
  OnStale,
  type Resource,
  ResourceSchema,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type {
  columnClassSchema,
  columnsSchema,
  postgresBackendSchema,
  postgresGrantSchema,
} from './document-schemas.ts';
import type { sshBackendSchema, sshGrantSchema } from './ssh-schemas.ts';

const ON_STALE = { strict: OnStale.STRICT, standard: OnStale.STANDARD } as const;
const LAYOUTS = { front: Layout.FRONT } as const;
const MASKS = {
  full: Mask.FULL,
  last4: Mask.LAST4,
  email: Mask.EMAIL,
  null: Mask.NULL,
  year: Mask.YEAR,
} as const;

type BackendType = NonNullable<MessageInitShape<typeof BackendSchema>['type']>;
type Rights = NonNullable<MessageInitShape<typeof GrantSchema>['rights']>;

/** What a Backend document of type postgres declares. */
export function postgresBackend(document: InferOutput<typeof postgresBackendSchema>): Resource {
  const { postgres } = document;
  return backendResource(document, {
    case: 'postgres',
    value: {
      host: postgres.host,
      port: postgres.port,
      database: postgres.database,
      layout: LAYOUTS[postgres.layout],
      loginUser: postgres.login.user,
      loginPasswordFile: postgres.login.password_file,
      ...(postgres.tls && {
        tls: { caFile: postgres.tls.ca_file, serverName: postgres.tls.server_name },
      }),
    },
  });
}

/** What a Backend document of type ssh declares. */
export function sshBackend(document: InferOutput<typeof sshBackendSchema>): Resource {
  const { address, host_key: hostKeys = [], logins } = document.ssh;
  const accounts = Object.entries(logins).map(([login, { account = login }]) => [login, account]);
  const value = {
    ...address,
    // Sorted, so that another order of the same keys is no change.
    hostKeys: [...hostKeys].sort(Buffer.compare),
    logins: Object.fromEntries(accounts),
  };
  return backendResource(document, { case: 'ssh', value });
}

function backendResource(
  {
    name,
    environment,
    on_stale: onStale,
  }: Pick<InferOutput<typeof postgresBackendSchema>, 'name' | 'environment' | 'on_stale'>,
  type: BackendType,
): Resource {
  const value = { name, environment, onStale: ON_STALE[onStale], type };
  return create(ResourceSchema, { name, body: { case: 'backend', value } });
}

/** What a ColumnClass document declares. */
export function columnClassResource(document: InferOutput<typeof columnClassSchema>): Resource {
  const { name, mask } = document;
  const value = { name, mask: MASKS[mask] };
  return create(ResourceSchema, { name, body: { case: 'columnClass', value } });
}

/** What a Columns document declares. */
export function columnsResource(document: InferOutput<typeof columnsSchema>): Resource {
  const { name, backend } = document;
  // Sorted, so that another order of the same lines is no change.
  const tables = Object.entries(document.tables)
    .map(([table, columns]) => ({ table, columns }))
    .sort((one, other) => (one.table < other.table ? -1 : 1));
  return create(ResourceSchema, {
    name,
    body: { case: 'columns', value: { name, backend, tables } },
  });
}

/** What a Grant document on a backend of type postgres declares. */
export function postgresGrant(document: InferOutput<typeof postgresGrantSchema>): Resource {
  const rights = { case: 'postgres', value: document.postgres } as const;
  return grantResource(document, document.session.rows, rights);
}

/** What a Grant document on a backend of type ssh declares. */
export function sshGrant(document: InferOutput<typeof sshGrantSchema>): Resource {
  const { logins, channels } = document.ssh;
  const { shell, exec, sftp } = channels;
  const commands = typeof exec === 'boolean' ? [] : exec;
  const value = { logins, shell, exec: exec === true, commands, sftp };
  return grantResource(document, 0, { case: 'ssh', value });
}

function grantResource(
  document: Omit<InferOutput<typeof sshGrantSchema>, 'ssh'>,
  rows: number,
  rights: Rights,
): Resource {
  const { name, identity, backend, owner, purpose, expires_at: expiresAt, session } = document;
  const value = {
    name,
    identity: identity.toString(),
    backend,
    owner,
    purpose,
    expiresAt: timestampFromDate(expiresAt),
    session: {
      maximum: { seconds: BigInt(session.maximum) },
      renewable: session.renewable,
      rows: BigInt(rows),
    },
    rights,
  };
  return create(ResourceSchema, { name, body: { case: 'grant', value } });
}
