import type { SshService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { SshIssuer } from '../authority/ssh-issuer.ts';
import { actorOf, type Caller } from './callers.ts';
import { certificateMessage } from './ssh-message.ts';

export interface SshServiceOptions {
  readonly sshIssuer: SshIssuer;
}

/** SSH authorities and targets' host certificates, for operators. */
export function sshService({
  sshIssuer,
}: SshServiceOptions): Implementation<typeof SshService, Caller> {
  return {
    async listSshAuthorities() {
      const { user, host, gateway } = sshIssuer.authorities;
      return { user: [...user], host: [...host], gateway: [...gateway] };
    },

    async signHostCertificate({ backend, publicKey, ttlSeconds }, { caller }) {
      const wish = { backend, publicKey, ttlSeconds };
      const signed = await sshIssuer.newTargetCertificate(wish, actorOf(caller));
      const principals = Object.fromEntries(
        [...signed.principals].map(([account, names]) => [account, { principals: [...names] }]),
      );
      return { ...certificateMessage(signed), principals };
    },
  };
}
