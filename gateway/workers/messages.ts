/** What the primary process of a gateway and its workers tell each other, in the form that IPC carries. */
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { OpenSessionResponseSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { BackendSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { HostPort } from '../../runtime/config.ts';
import { Fault, type FaultCode } from '../../runtime/fault.ts';
import type { Samples } from '../../runtime/metrics.ts';
import type { EventInit } from '../access/event-spool.ts';
import type { GatewayConfig } from '../config.ts';
import type { EndCause } from '../metrics.ts';
import { type AdmittedSession, type SessionClosing, subjectsOf } from '../session/admit-session.ts';
import type { SessionRequest } from '../session/session-desk.ts';

export type ToWorker =
  | {
      readonly kind: 'start';
      readonly index: number;
      readonly count: number;
      readonly config: GatewayConfig;
    }
  /** `writ.gateway.v1.Snapshot`, encoded. */
  | { readonly kind: 'snapshot'; readonly snapshot: Uint8Array }
  | { readonly kind: 'admitted'; readonly ticket: number; readonly session: WireSession }
  | { readonly kind: 'refused'; readonly ticket: number; readonly fault: WireFault }
  | {
      readonly kind: 'end';
      readonly ticket: number;
      readonly fault: WireFault;
      readonly cause: EndCause;
    }
  | Told
  | DealtWith
  | { readonly kind: 'ping'; readonly level: string }
  | { readonly kind: 'stop' };

export type ToPrimary =
  | { readonly kind: 'begun' }
  | { readonly kind: 'serving'; readonly listeners: readonly (readonly [string, HostPort])[] }
  | { readonly kind: 'failed'; readonly fault: WireFault }
  | { readonly kind: 'admit'; readonly ticket: number; readonly request: WireRequest }
  | { readonly kind: 'close'; readonly ticket: number; readonly how: SessionClosing }
  | { readonly kind: 'event'; readonly event: EventInit }
  | (Omit<Told, 'kind'> & { readonly kind: 'tell'; readonly to: number })
  | DealtWith
  | { readonly kind: 'pong'; readonly samples: Samples };

/** A message from one worker's protocol to another's. */
interface Told {
  readonly kind: 'told';
  readonly id: number;
  readonly protocol: string;
  readonly message: unknown;
}

/** The answer to `tell` and `told`. */
interface DealtWith {
  readonly kind: 'dealtWith';
  readonly id: number;
}

export interface WireFault {
  readonly code: FaultCode;
  readonly message: string;
}

export type WireRequest = Omit<SessionRequest, 'peer'> & {
  readonly peer: Omit<SessionRequest['peer'], 'id'> & { readonly id: string };
};

/** Messages of protobuf, encoded. */
export interface WireSession {
  readonly answer: Uint8Array;
  readonly backend: Uint8Array;
  readonly expiresAt: Date;
}

export function wireFault(error: unknown): WireFault {
  const { code, message } = Fault.from(error);
  return { code, message };
}

export function faultOf({ code, message }: WireFault): Fault {
  return new Fault(code, message);
}

export function wireRequest({ peer, ...request }: SessionRequest): WireRequest {
  return { ...request, peer: { ...peer, id: String(peer.id) } };
}

export function requestOf({ peer, ...request }: WireRequest): SessionRequest {
  return { ...request, peer: { ...peer, id: SpiffeId.parse(peer.id) } };
}

export function wireSession({ answer, backend, expiresAt }: AdmittedSession): WireSession {
  return {
    answer: toBinary(OpenSessionResponseSchema, answer),
    backend: toBinary(BackendSchema, backend),
    expiresAt,
  };
}

export function sessionOf(session: WireSession): Omit<AdmittedSession, 'close'> {
  const answer = fromBinary(OpenSessionResponseSchema, session.answer);
  const { grant } = answer;
  if (grant === undefined) throw new Error('a session was admitted without its grant');
  const backend = fromBinary(BackendSchema, session.backend);
  const subjects = subjectsOf(answer, grant);
  return { answer, subjects, grant, backend, expiresAt: session.expiresAt };
}
