import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { InferOutput } from 'valibot';
import {
  type BackendSchema,
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

const ON_STALE = { strict: OnStale.STRICT, standard: OnStale.STANDARD } as const;
const LAYOUTS = { front: Layout.FRONT } as const;
const MASKS = {
  full: Mask.FULL,
  last4: Mask.LAST4,
  email: Mask.EMAIL,
  null: Mask.NULL,
  year: Mask.YEAR,
} as const;

/** What a Backend document declares. */
export function backendResource(document: InferOutput<typeof postgresBackendSchema>): Resource {
  const { name, environment, postgres } = document;
  const type: MessageInitShape<typeof BackendSchema>['type'] = {
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
  };
  const value = { name, environment, onStale: ON_STALE[document.on_stale], type };
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

/** What a Grant document declares. */
export function grantResource(document: InferOutput<typeof postgresGrantSchema>): Resource {
  const { name, backend, owner, purpose, session, postgres } = document;
  const value = {
    name,
    identity: document.identity.toString(),
    backend,
    owner,
    purpose,
    expiresAt: timestampFromDate(document.expires_at),
    session: {
      maximum: { seconds: BigInt(session.maximum) },
      renewable: session.renewable,
      rows: BigInt(session.rows),
    },
    rights: { case: 'postgres', value: postgres } as const,
  };
  return create(ResourceSchema, { name, body: { case: 'grant', value } });
}
