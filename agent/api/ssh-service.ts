/** SSH for workloads that hold their keys themselves, and what the configuration of a client needs. */
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { parsePublicKey } from '../../identity/ssh/public-key.ts';
import type {
  IssueSshCertificateRequest,
  SshService,
} from '../../proto/gen/writ/agent/v1/workload_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { SshServer } from '../ssh/server-calls.ts';
import type { Identity } from '../svid/cache.ts';

const MAXIMUM_KEY_BYTES = 16 * 1024;

/** Who is on the other side of a call. */
export interface SshPeer {
  /** Those that it may use for SSH now, read anew each time. @throws Fault if it has gone */
  sshIdentities(): Promise<readonly Identity[]>;
  /** Runs work when it is its user's turn. @throws Fault if too much of the user's waits */
  inTurn<T>(work: () => Promise<T>): Promise<T>;
}

export interface SshServiceOptions {
  readonly server: SshServer;
  /** Path of the ssh-agent's socket; undefined if there is none. */
  readonly sshAgent: string | undefined;
}

export function sshService({
  server,
  sshAgent,
}: SshServiceOptions): Implementation<typeof SshService, SshPeer> {
  return {
    async issueSshCertificate(request, { caller }) {
      const wanted = checkedWish(request);
      return await caller.inTurn(async () => {
        const { entry } = await chosen(caller, wanted);
        const { certificate, hostAuthorities } = await server.sign(entry, request.publicKey);
        return {
          spiffeId: String(entry.spiffeId),
          certificate: certificate.blob,
          hostAuthorities: [...hostAuthorities],
          expiresAt: timestampFromDate(certificate.validBefore),
        };
      });
    },

    async getSshAccess(_request, { caller }) {
      return await caller.inTurn(async () => {
        const identities = await caller.sshIdentities();
        if (identities.length === 0) throw noIdentity();
        const entries = identities.map(({ entry }) => entry);
        const { targets, hostAuthorities } = await server.targets(entries);
        return { targets, hostAuthorities, agentSocket: sshAgent ?? '' };
      });
    },
  };
}

/** The SPIFFE ID that is wanted; undefined: the first. @throws Fault */
function checkedWish({ publicKey, spiffeId }: IssueSshCertificateRequest): string | undefined {
  if (publicKey.length > MAXIMUM_KEY_BYTES) {
    throw new Fault('INVALID_ARGUMENT', `public_key: at most ${MAXIMUM_KEY_BYTES} bytes`);
  }
  parsePublicKey(publicKey);
  return spiffeId === '' ? undefined : String(SpiffeId.parse(spiffeId));
}

async function chosen(caller: SshPeer, wanted: string | undefined): Promise<Identity> {
  const identities = await caller.sshIdentities();
  const identity =
    wanted === undefined
      ? identities[0]
      : identities.find(({ entry }) => String(entry.spiffeId) === wanted);
  if (identity === undefined) throw noIdentity();
  return identity;
}

function noIdentity(): Fault {
  return new Fault('PERMISSION_DENIED', 'no identity issued');
}
