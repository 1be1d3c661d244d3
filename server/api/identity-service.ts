import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampDate, timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { SpiffeId, TrustDomain } from '../../identity/spiffe-id.ts';
import type {
  Identity,
  IdentitySchema,
  IdentityService,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import type { Identities, IdentityInit } from '../registry/identities.ts';
import {
  type IdentityRecord,
  identityFor,
  listIdentities,
  parseIdentityKind,
  parseIdentityStatus,
} from '../registry/identity-records.ts';
import { memberIdFromText } from '../registry/spiffe-id-message.ts';
import { actorOf, type Caller } from './callers.ts';

export interface IdentityServiceOptions {
  readonly store: Datastore;
  readonly identities: Identities;
  readonly trustDomain: TrustDomain;
}

/** Identity records, for operators. */
export function identityService({
  store,
  identities,
  trustDomain,
}: IdentityServiceOptions): Implementation<typeof IdentityService, Caller> {
  const idOf = (text: string) => memberIdFromText(text, trustDomain, 'spiffe_id');
  return {
    async listIdentities() {
      return { identities: (await listIdentities(store)).map(identityMessage) };
    },

    async getIdentity({ spiffeId }) {
      const record = await identityFor(store, idOf(spiffeId));
      if (record === undefined) throw new Fault('NOT_FOUND', 'no identity of that SPIFFE ID');
      return { identity: identityMessage(record) };
    },

    async putIdentity({ identity }, { caller }) {
      if (identity === undefined) throw new Fault('INVALID_ARGUMENT', 'identity is missing');
      const spiffeId = idOf(identity.spiffeId);
      const init = identityInit(identity);
      const record = await store.transaction(async (tx) => {
        requirePuttable(spiffeId, identity.status, await identityFor(tx, spiffeId));
        return identities.put(tx, spiffeId, init, actorOf(caller));
      });
      return { identity: identityMessage(record) };
    },

    async setIdentityStatus({ spiffeId, status, reason }, { caller }) {
      const change = { status: parseIdentityStatus(status), reason };
      const record = await identities.setStatus(idOf(spiffeId), change, actorOf(caller));
      return { identity: identityMessage(record) };
    },
  };
}

/** A change of status has its own call; agents and servers have no identity record. */
function requirePuttable(
  spiffeId: SpiffeId,
  status: string,
  known: IdentityRecord | undefined,
): void {
  if (spiffeId.path.startsWith('/spire/'))
    throw new Fault('INVALID_ARGUMENT', `spiffe_id ${spiffeId.path} is reserved`);
  if (status !== '' && status !== (known?.status ?? 'active'))
    throw new Fault('INVALID_ARGUMENT', 'status: it is changed by SetIdentityStatus alone');
}

function identityInit(identity: Identity): IdentityInit {
  const { owner, purpose, environment, kind, labels, expiresAt } = identity;
  const { jwtAudiences, maxAgents } = identity;
  if (expiresAt === undefined) throw new Fault('INVALID_ARGUMENT', 'expires_at is missing');
  return {
    ...{ owner, purpose, environment, labels, jwtAudiences, maxAgents },
    kind: parseIdentityKind(kind),
    expiresAt: timestampDate(expiresAt),
  };
}

function identityMessage(record: IdentityRecord): MessageInitShape<typeof IdentitySchema> {
  const { expiresAt, createdAt, labels, jwtAudiences, ...rest } = record;
  return {
    ...rest,
    labels: { ...labels },
    jwtAudiences: [...jwtAudiences],
    expiresAt: timestampFromDate(expiresAt),
    createdAt: timestampFromDate(createdAt),
  };
}
