import type { MessageInitShape } from '@bufbuild/protobuf';
import type { SnapshotSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { type GatewayRecord, mayServe } from './gateways.ts';
import { listNamedResources } from './resources.ts';

/** What one gateway may know: its backends, and what is declared for them; nothing of others'. */
export async function gatewaySnapshot(
  reader: Reader,
  gateway: GatewayRecord,
  revision: bigint,
): Promise<MessageInitShape<typeof SnapshotSchema>> {
  const bodies = (await listNamedResources(reader)).map(({ body }) => body);
  const columns = bodies.flatMap((body) => (body.case === 'columns' ? [body.value] : []));
  const served = columns.filter(({ backend }) => mayServe(gateway, backend));
  const classes = new Set(served.flatMap(({ tables }) => tables.flatMap(classNames)));
  return {
    revision,
    backends: bodies.flatMap((body) =>
      body.case === 'backend' && mayServe(gateway, body.value.name) ? [body.value] : [],
    ),
    grants: bodies.flatMap((body) =>
      body.case === 'grant' && mayServe(gateway, body.value.backend) ? [body.value] : [],
    ),
    columnClasses: bodies.flatMap((body) =>
      body.case === 'columnClass' && classes.has(body.value.name) ? [body.value] : [],
    ),
    columns: served,
  };
}

function classNames(table: { columns: Readonly<Record<string, string>> }): string[] {
  return Object.values(table.columns);
}
