import type { GatewayService } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { SshIssuer } from '../authority/ssh-issuer.ts';
import { actorOf, type Caller } from './callers.ts';
import { gatewayOf, requireText } from './gateway-service.ts';
import { certificateMessage } from './ssh-message.ts';

export interface GatewaySshServiceOptions {
  readonly sshIssuer: SshIssuer;
}

type Service = Pick<
  Implementation<typeof GatewayService, Caller>,
  'signSshCertificate' | 'signSshHostCertificate'
>;

/** What gateways have signed for SSH. */
export function gatewaySshService({ sshIssuer }: GatewaySshServiceOptions): Service {
  return {
    async signSshCertificate({ sessionId, publicKey }, { caller }) {
      const { record, address } = gatewayOf(caller);
      requireText('session_id', sessionId);
      const wish = { sessionId, publicKey, peerAddress: address };
      return certificateMessage(
        await sshIssuer.newGatewayCertificate(record, wish, actorOf(caller)),
      );
    },

    async signSshHostCertificate({ publicKey, backend }, { caller }) {
      const { record } = gatewayOf(caller);
      requireText('backend', backend);
      const wish = { publicKey, backend };
      return certificateMessage(await sshIssuer.newHostCertificate(record, wish, actorOf(caller)));
    },
  };
}
