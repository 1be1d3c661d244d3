import type { GatewayService, SshProof } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Call, Implementation } from '../../runtime/grpc-server.ts';
import type { GatewayLinks } from '../access/gateway-links.ts';
import type { SessionOpener } from '../access/open-session.ts';
import type { Sessions } from '../access/sessions.ts';
import type { RotationWork } from '../governance/rotation-work.ts';
import type { Logins } from '../secrets/logins.ts';
import type { Caller } from './callers.ts';

export interface GatewayServiceOptions {
  readonly links: GatewayLinks;
  readonly opener: SessionOpener;
  readonly sessions: Sessions;
  readonly logins: Logins;
  readonly work: RotationWork;
}

/** The rest of it, which signs, is `gatewaySshService`. */
type Service = Pick<
  Implementation<typeof GatewayService, Caller>,
  'connect' | 'openSession' | 'closeSession' | 'fetchLogin' | 'takeRotation' | 'reportRotation'
>;

const MAXIMUM_CHAIN = 8;
const MAXIMUM_CERTIFICATE_BYTES = 64 * 1024;
/** The packet of an SSH client's proof is no longer; the certificate is a part of it. */
const MAXIMUM_PROOF_BYTES = 64 * 1024;
const MAXIMUM_TEXT = 256;

/** What gateways call for their sessions. */
export function gatewayService({
  links,
  opener,
  sessions,
  logins,
  work,
}: GatewayServiceOptions): Service {
  return {
    connect: (requests, call) => links.serve(idOf(call), requests, call),

    async openSession(request, call) {
      const gateway = idOf(call);
      requireText('backend', request.backend);
      requireText('grant', request.grant);
      requireText('login', request.login);
      requireText('client_address', request.clientAddress);
      const { clientChain } = request;
      const isTooLarge = (der: Uint8Array) => der.length > MAXIMUM_CERTIFICATE_BYTES;
      if (clientChain.length > MAXIMUM_CHAIN || clientChain.some(isTooLarge)) {
        throw new Fault('INVALID_ARGUMENT', 'client_chain is longer than any chain of ours');
      }
      boundProof(request.sshProof);
      return opener.open(gateway, request, call.requestId);
    },

    async closeSession(request, call) {
      const gateway = idOf(call);
      requireText('session_id', request.sessionId);
      await sessions.close(gateway, request, call.requestId);
      return {};
    },

    async fetchLogin({ backend, previous }, call) {
      const gateway = idOf(call);
      requireText('backend', backend);
      return await logins.fetch(gateway, { backend, previous }, call);
    },

    async takeRotation(request, call) {
      const gateway = idOf(call);
      requireText('id', request.id);
      requireWorker(request.worker);
      return await work.take(gateway, request, call);
    },

    async reportRotation(request, call) {
      const gateway = idOf(call);
      requireText('id', request.id);
      requireWorker(request.worker);
      await work.report(gateway, request, call);
      return {};
    },
  };
}

/**
 * A workload that may claim a gateway's SPIFFE ID is none without a record (threats S1).
 * @throws Fault PERMISSION_DENIED
 */
export function gatewayOf(caller: Caller): Extract<Caller, { kind: 'gateway' }> {
  if (caller.kind === 'gateway') return caller;
  throw new Fault('PERMISSION_DENIED', 'only gateways may call this');
}

function requireWorker(worker: string): void {
  if (!/^[A-Za-z0-9_-]{16,64}$/.test(worker))
    throw new Fault('INVALID_ARGUMENT', 'worker: 16 to 64 characters of base64url');
}

/** @throws Fault INVALID_ARGUMENT for text that is long or has control characters */
export function requireText(field: string, text: string): void {
  if (text.length <= MAXIMUM_TEXT && !/\p{Cc}/u.test(text)) return;
  throw new Fault('INVALID_ARGUMENT', `${field}: write at most ${MAXIMUM_TEXT} characters`);
}

function idOf({ caller }: Call<Caller>): string {
  return gatewayOf(caller).id.toString();
}

function boundProof(proof: SshProof | undefined): void {
  if (proof === undefined) return;
  const parts = [proof.certificate, proof.signedData, proof.signature];
  if (parts.every(({ length }) => length <= MAXIMUM_PROOF_BYTES)) return;
  throw new Fault('INVALID_ARGUMENT', 'ssh_proof is longer than any of an SSH client');
}
