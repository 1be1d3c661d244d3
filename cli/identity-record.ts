import type { Identity } from '../proto/gen/writ/admin/v1/admin_pb.ts';
import { isoTime } from './time.ts';

/** An identity record as listings show it. */
export function identityRecord(identity: Identity) {
  const { spiffeId, owner, purpose, environment, kind, status } = identity;
  return {
    spiffe_id: spiffeId,
    owner,
    purpose,
    environment,
    kind,
    status,
    expires_at: isoTime(identity.expiresAt),
    created_at: isoTime(identity.createdAt),
    labels: identity.labels,
    jwt_audiences: identity.jwtAudiences,
    max_agents: identity.maxAgents,
  };
}
