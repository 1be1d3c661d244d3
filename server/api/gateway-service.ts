import type { GatewayService } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Call, Implementation } from '../../runtime/grpc-server.ts';
import type { GatewayLinks } from '../access/gateway-links.ts';
import type { SessionOpener } from '../access/open-session.ts';
import type { Sessions } from '../access/sessions.ts';
import type { Caller } from './callers.ts';

export interface GatewayServiceOptions {
  readonly links: GatewayLinks;
  readonly opener: SessionOpener;
  readonly sessions: Sessions;
}

const MAXIMUM_CHAIN = 8;
const MAXIMUM_CERTIFICATE_BYTES = 64 * 1024;
const MAXIMUM_TEXT = 256;

/** What gateways call. */
export function gatewayService({
  links,
  opener,
  sessions,
}: GatewayServiceOptions): Implementation<typeof GatewayService, Caller> {
  return {
    connect: (requests, call) => links.serve(gatewayOf(call), requests, call.signal),

    async openSession(request, call) {
      const gateway = gatewayOf(call);
      requireText('backend', request.backend);
      requireText('grant', request.grant);
      requireText('client_address', request.clientAddress);
      const { clientChain } = request;
      const isTooLarge = (der: Uint8Array) => der.length > MAXIMUM_CERTIFICATE_BYTES;
      if (clientChain.length > MAXIMUM_CHAIN || clientChain.some(isTooLarge)) {
        throw new Fault('INVALID_ARGUMENT', 'client_chain is longer than any chain of ours');
      }
      return opener.open(gateway, request);
    },

    async closeSession(request, call) {
      const gateway = gatewayOf(call);
      requireText('session_id', request.sessionId);
      await sessions.close(gateway, request);
      return {};
    },
  };
}

/**
 * A workload that may claim a gateway's SPIFFE ID is none without a record (threats S1).
 * @throws Fault PERMISSION_DENIED
 */
function gatewayOf({ caller }: Call<Caller>): string {
  if (caller.kind === 'gateway') return caller.id.toString();
  throw new Fault('PERMISSION_DENIED', 'only gateways may call this');
}

function requireText(field: string, text: string): void {
  if (text.length <= MAXIMUM_TEXT && !/\p{Cc}/u.test(text)) return;
  throw new Fault('INVALID_ARGUMENT', `${field}: write at most ${MAXIMUM_TEXT} characters`);
}
