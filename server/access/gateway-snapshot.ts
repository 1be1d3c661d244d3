import type { MessageInitShape } from '@bufbuild/protobuf';
import type { SnapshotSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Backend } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { rotationsFor } from '../governance/rotation-work.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { secretOf } from '../secrets/backends-naming.ts';
import { currentVersions } from '../secrets/secret-rows.ts';
import { type GatewayRecord, mayServe } from './gateways.ts';
import { listNamedResources } from './resources.ts';

/** SSH public keys (RFC 4253 6.6) that sign certificates of the trust domain. */
export interface SshAuthorities {
  /** Sign workloads' certificates. */
  readonly user: readonly Uint8Array[];
  /** Sign host certificates. */
  readonly host: readonly Uint8Array[];
}

/** What one gateway may know: its backends, and what is declared for them; nothing of others'. */
export async function gatewaySnapshot(
  reader: Reader,
  gateway: GatewayRecord,
  { revision, sshAuthorities }: { revision: bigint; sshAuthorities: SshAuthorities },
): Promise<MessageInitShape<typeof SnapshotSchema>> {
  const bodies = (await listNamedResources(reader)).map(({ body }) => body);
  const columns = bodies.flatMap((body) => (body.case === 'columns' ? [body.value] : []));
  const served = columns.filter(({ backend }) => mayServe(gateway, backend));
  const classes = new Set(served.flatMap(({ tables }) => tables.flatMap(classNames)));
  const backends = bodies.flatMap((body) =>
    body.case === 'backend' && mayServe(gateway, body.value.name) ? [body.value] : [],
  );
  return {
    revision,
    backends,
    logins: await loginVersions(reader, backends),
    rotations: await rotationsFor(reader, gateway),
    grants: bodies.flatMap((body) =>
      body.case === 'grant' && mayServe(gateway, body.value.backend) ? [body.value] : [],
    ),
    columnClasses: bodies.flatMap((body) =>
      body.case === 'columnClass' && classes.has(body.value.name) ? [body.value] : [],
    ),
    columns: served,
    sshAuthorities: { user: [...sshAuthorities.user], host: [...sshAuthorities.host] },
  };
}

async function loginVersions(reader: Reader, backends: readonly Backend[]) {
  const versions = await currentVersions(reader);
  return backends.flatMap((backend) => {
    const secret = secretOf(backend);
    if (secret === undefined) return [];
    return [{ backend: backend.name, version: BigInt(versions.get(secret) ?? 0) }];
  });
}

function classNames(table: { columns: Readonly<Record<string, string>> }): string[] {
  return Object.values(table.columns);
}
