import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { JoinTokenService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { JoinTokens } from '../attestation/join-tokens.ts';
import { memberIdFromText } from '../registry/spiffe-id-message.ts';
import { actorOf, type Caller } from './callers.ts';

export interface JoinTokenServiceOptions {
  readonly joinTokens: JoinTokens;
  readonly trustDomain: TrustDomain;
}

const DEFAULT_TTL_SECONDS = 600;

/** Secrets that admit one agent each, for operators. */
export function joinTokenService({
  joinTokens,
  trustDomain,
}: JoinTokenServiceOptions): Implementation<typeof JoinTokenService, Caller> {
  return {
    async createJoinToken({ ttlSeconds, agentId }, { caller }) {
      const alias = agentId === '' ? undefined : memberIdFromText(agentId, trustDomain, 'agent_id');
      const minted = await joinTokens.createJoinString(
        { ttlSeconds: ttlSeconds || DEFAULT_TTL_SECONDS, ...(alias && { alias }) },
        actorOf(caller),
      );
      const { joinString, handle, expiresAt } = minted;
      return { joinString, handle, expiresAt: timestampFromDate(expiresAt) };
    },
  };
}
