import { equals } from '@bufbuild/protobuf';
import type { Rotation, Snapshot } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import {
  type Backend,
  type ColumnClass,
  type Columns,
  type Grant,
  GrantSchema,
} from '../../proto/gen/writ/resource/v1/resource_pb.ts';

/** All that the server told this gateway of its backends, at one revision; replaced as a whole. */
export interface GatewaySnapshot {
  readonly revision: bigint;
  readonly backends: ReadonlyMap<string, Backend>;
  readonly grants: ReadonlyMap<string, Grant>;
  readonly columnClasses: ReadonlyMap<string, ColumnClass>;
  readonly columns: readonly Columns[];
  readonly sshAuthorities: SshAuthorityKeys;
  /** By backend, the version of its login in the server's vault. */
  readonly logins: ReadonlyMap<string, bigint>;
  /** Steps that wait for a gateway. */
  readonly rotations: readonly Rotation[];
}

/** Public keys (RFC 4253 6.6) of the trust domain's SSH authorities; none: nobody is believed. */
export interface SshAuthorityKeys {
  /** Sign workloads' certificates. */
  readonly user: readonly Uint8Array[];
  /** Sign host certificates. */
  readonly host: readonly Uint8Array[];
}

/** What a gateway knows before its server has spoken: nothing, so nobody is let in. */
export const EMPTY_SNAPSHOT: GatewaySnapshot = {
  revision: 0n,
  backends: new Map(),
  grants: new Map(),
  columnClasses: new Map(),
  columns: [],
  sshAuthorities: { user: [], host: [] },
  logins: new Map(),
  rotations: [],
};

/** The snapshot in a message, indexed by name. */
export function readSnapshot(message: Snapshot): GatewaySnapshot {
  return {
    revision: message.revision,
    backends: byName(message.backends),
    grants: byName(message.grants),
    columnClasses: byName(message.columnClasses),
    columns: message.columns,
    sshAuthorities: {
      user: message.sshAuthorities?.user ?? [],
      host: message.sshAuthorities?.host ?? [],
    },
    logins: new Map(message.logins.map(({ backend, version }) => [backend, version])),
    rotations: message.rotations,
  };
}

/** Names of the grants of `before` that `after` no longer holds, or holds in another form. */
export function changedGrants(before: GatewaySnapshot, after: GatewaySnapshot): string[] {
  const changed: string[] = [];
  for (const [name, grant] of before.grants) {
    const now = after.grants.get(name);
    if (now === undefined || !equals(GrantSchema, grant, now)) changed.push(name);
  }
  return changed;
}

function byName<T extends { readonly name: string }>(list: readonly T[]): ReadonlyMap<string, T> {
  return new Map(list.map((one) => [one.name, one]));
}
