import type { TrustDomain } from '../../identity/spiffe-id.ts';
import type { SVID as SvidRpc } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { IssuedJwt, IssuedX509, Issuer } from '../authority/issuer.ts';
import { idMessage, memberId } from '../registry/spiffe-id-message.ts';
import { actorOf, type Caller } from './callers.ts';
import { agentOf } from './entry-service.ts';
import { ITEM_OK, itemStatus } from './item-status.ts';

export interface SvidServiceOptions {
  readonly issuer: Issuer;
  readonly trustDomain: TrustDomain;
}

const MAXIMUM_BATCH = 500;

/** SPIRE's SVID API, but for what nested servers ask; its WIT-SVIDs are not offered. */
export function svidService({
  issuer,
  trustDomain,
}: SvidServiceOptions): Partial<Implementation<typeof SvidRpc, Caller>> {
  return {
    async mintX509SVID({ csr, ttl }, { caller }) {
      if (csr.length === 0) throw new Fault('INVALID_ARGUMENT', 'missing CSR');
      return { svid: x509Message(await issuer.mintX509(csr, ttl, actorOf(caller))) };
    },

    async mintJWTSVID({ id, audience, ttl }, { caller }) {
      const asked = { id: memberId(id, trustDomain, 'id'), audience, ttlSeconds: ttl };
      return { svid: jwtMessage(await issuer.mintJwt(asked, actorOf(caller))) };
    },

    async batchNewX509SVID({ params }, { caller }) {
      if (params.length === 0) throw new Fault('INVALID_ARGUMENT', 'missing parameters');
      if (params.length > MAXIMUM_BATCH)
        throw new Fault('RESOURCE_EXHAUSTED', `more than ${MAXIMUM_BATCH} SVIDs in one call`);
      const { record } = agentOf(caller);
      const outcomes = await issuer.newX509(record, params, actorOf(caller));
      return {
        results: outcomes.map((outcome) =>
          outcome instanceof Fault
            ? { status: itemStatus(outcome) ?? unexpected(outcome) }
            : { status: ITEM_OK, svid: x509Message(outcome) },
        ),
      };
    },

    async newJWTSVID({ entryId, audience }, { caller }) {
      const { record } = agentOf(caller);
      const asked = { entryId, audience };
      return { svid: jwtMessage(await issuer.newJwt(record, asked, actorOf(caller))) };
    },
  };
}

function x509Message({ id, chain, notAfter, hint }: IssuedX509) {
  return { id: idMessage(id), certChain: [...chain], expiresAt: unixSeconds(notAfter), hint };
}

function jwtMessage({ id, token, issuedAt, expiresAt, hint }: IssuedJwt) {
  return {
    id: idMessage(id),
    token,
    issuedAt: unixSeconds(issuedAt),
    expiresAt: unixSeconds(expiresAt),
    hint,
  };
}

function unexpected(outcome: Fault): never {
  throw outcome;
}

function unixSeconds(at: Date): bigint {
  return BigInt(Math.floor(at.getTime() / 1000));
}
