import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { InferOutput } from 'valibot';
import {
  type BackendSchema,
  type GrantSchema,
  Layout,
  Mask,
  OnStale,
  type PostgresRightsSchema,
  type Resource,
  ResourceSchema,
  type SessionLimits,
  type SessionLimitsSchema,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type {
  columnClassSchema,
  columnsSchema,
  postgresBackendSchema,
  postgresGrantSchema,
} from './document-schemas.ts';
import { postgresGuard } from './postgres-guard-schema.ts';
import { postgresLogin } from './postgres-login-schema.ts';
import { postgresPlaces } from './postgres-places-schema.ts';
import { postgresSettings } from './postgres-settings-schema.ts';
import type { sshBackendSchema, sshGrantSchema } from './ssh-schemas.ts';

const ON_STALE = { strict: OnStale.STRICT, standard: OnStale.STANDARD } as const;
const LAYOUTS = { front: Layout.FRONT, 'in-place': Layout.IN_PLACE } as const;
const MASKS = {
  full: Mask.FULL,
  last4: Mask.LAST4,
  email: Mask.EMAIL,
  null: Mask.NULL,
  year: Mask.YEAR,
  hash: Mask.HASH,
  range: Mask.RANGE,
  none: Mask.NONE,
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
      ...postgresPlaces(postgres),
      layout: LAYOUTS[postgres.layout],
      ...postgresLogin(postgres),
      ...postgresGuard(postgres),
      ...postgresSettings(postgres),
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
  const { name, mask, range_size: rangeSize = 0 } = document;
  const value = { name, mask: MASKS[mask], rangeSize: BigInt(rangeSize) };
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
  const rights = { case: 'postgres', value: postgresRights(document.postgres) } as const;
  return grantResource(document, postgresLimits(document.session), rights);
}

function postgresRights(
  document: InferOutput<typeof postgresGrantSchema>['postgres'],
): MessageInitShape<typeof PostgresRightsSchema> {
  const { database = '', columns, write: writeMasked, ddl, rules, recording, ...rights } = document;
  return {
    ...rights,
    database,
    // Sorted, so that another order of the same lines is no change.
    columns: Object.entries(columns)
      .map(([table, value]) => ({ table, ...value }))
      .sort((one, other) => (one.table < other.table ? -1 : 1)),
    writeMasked,
    ...(rules && {
      rules: { tables: rules.tables, functions: rules.functions, noCopy: !rules.copy },
    }),
    ...(recording?.rows && { recording: { rows: true } }),
    ...(ddl && { ddlOwner: { role: ddl.owner, schemas: ddl.schemas } }),
  };
}

type Limits = Omit<
  Exclude<MessageInitShape<typeof SessionLimitsSchema>, SessionLimits>,
  '$typeName'
>;

function postgresLimits(session: InferOutput<typeof postgresGrantSchema>['session']): Limits {
  const { rows, bytes, statements, errors, idle_in_transaction: idle, per_day: day } = session;
  return {
    ...counts({ rows, bytes, statements }),
    errors,
    ...(idle !== undefined && { idleInTransaction: { seconds: BigInt(idle) } }),
    ...(day && {
      perDay: {
        ...counts(day),
        ...(day.duration !== undefined && { duration: { seconds: BigInt(day.duration) } }),
      },
    }),
  };
}

function counts(all: { rows: number; bytes: number; statements: number }) {
  const { rows, bytes, statements } = all;
  return { rows: BigInt(rows), bytes: BigInt(bytes), statements: BigInt(statements) };
}

/** What a Grant document on a backend of type ssh declares. */
export function sshGrant(document: InferOutput<typeof sshGrantSchema>): Resource {
  const { logins, channels } = document.ssh;
  const { shell, exec, sftp } = channels;
  const commands = typeof exec === 'boolean' ? [] : exec;
  const value = { logins, shell, exec: exec === true, commands, sftp };
  return grantResource(document, {}, { case: 'ssh', value });
}

function grantResource(
  document: Omit<InferOutput<typeof sshGrantSchema>, 'ssh'>,
  limits: Limits,
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
      ...limits,
    },
    rights,
  };
  return create(ResourceSchema, { name, body: { case: 'grant', value } });
}
