/**
 * The one decision about who may use what, taken when a session opens and again whenever something is
 * signed for it (threats S2).
 */
import { timestampDate } from '@bufbuild/protobuf/wkt';
import type { Backend, Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { chooseGrant } from './choose-grant.ts';
import { findGateway, mayServe } from './gateways.ts';
import { type Credential, findCredentialHolder, type Holder } from './holder.ts';
import { isLocked } from './locks.ts';
import { isRefusal, type Refusal, refusal } from './refusal.ts';
import { findBackend } from './resources.ts';

/** Who asks for what, through whom. */
export interface AccessWish {
  /** SPIFFE ID of the gateway, authenticated. */
  readonly gateway: string;
  /** Verified. */
  readonly credential: Credential;
  /** Untrusted. */
  readonly backend: string;
  /** Untrusted; empty if the client named none. */
  readonly grant: string;
  /** Untrusted; empty where the protocol has no logins. */
  readonly login: string;
  /** All that could fit; those of others are passed over. */
  readonly grants: readonly Grant[];
}

/** What stands behind a session. */
export interface Admission {
  readonly holder: Holder;
  readonly grant: Grant;
  /** When the exception of a backend whose database does not enforce ends. */
  readonly exceptionEndsAt: Date | undefined;
}

/** The holder of the wish's credential and the one grant that gives what is wished, as both stand now. */
export async function decideAccess(
  reader: Reader,
  wish: AccessWish,
  now: Date,
): Promise<Admission | Refusal> {
  const record = await findGateway(reader, wish.gateway);
  if (record === undefined || !mayServe(record, wish.backend)) {
    return refusal('backend.not_served', 'this gateway does not serve that backend');
  }
  const holder = await findCredentialHolder(reader, wish.credential, now);
  if (isRefusal(holder)) return holder;
  const { spiffeId, agentId } = holder;
  const { backend, login } = wish;
  const grantWish = { spiffeId, backend, login, grant: wish.grant };
  const grant = chooseGrant(wish.grants, grantWish, now);
  if (isRefusal(grant)) return grant;
  const declared = await findBackend(reader, backend);
  const misfit = whyUnfit(declared, grant, wish);
  if (misfit !== undefined) return misfit;
  const exceptionEndsAt = exceptionEnd(declared);
  if (exceptionEndsAt !== undefined && exceptionEndsAt <= now) {
    return refusal('exception.expired', 'the exception of that backend has expired');
  }
  const lock = await isLocked(reader, { spiffeId, agentId, grant: grant.name, backend }, now);
  if (lock !== undefined) return refusal('lock', `locked: ${lock.reason}`);
  return { holder, grant, exceptionEndsAt };
}

/** When a session ends at the latest by what stands behind it. */
export function admissionEnd({ holder, grant, exceptionEndsAt }: Admission, now: Date): Date {
  const grantEnds = grant.expiresAt === undefined ? now : timestampDate(grant.expiresAt);
  const ends = [holder.endsAt, grantEnds, exceptionEndsAt ?? grantEnds];
  return new Date(Math.min(...ends.map((end) => end.getTime())));
}

function exceptionEnd(backend: Backend | undefined): Date | undefined {
  const type = backend?.type;
  const expiresAt = type?.case === 'postgres' ? type.value.exception?.expiresAt : undefined;
  return expiresAt === undefined ? undefined : timestampDate(expiresAt);
}

/** How clients of each type of backend prove who they are. */
const CREDENTIALS = { postgres: 'x509', ssh: 'ssh-user' } as const;

function whyUnfit(
  backend: Backend | undefined,
  { rights }: Grant,
  { credential, login }: AccessWish,
): Refusal | undefined {
  const type = backend?.type;
  if (type?.case === undefined) return refusal('backend.unknown', 'that backend is not declared');
  if (rights.case !== type.case) {
    return refusal('grant.unfit', `that grant gives nothing on a backend of type ${type.case}`);
  }
  if (credential.kind !== CREDENTIALS[type.case]) {
    return refusal('proof.unfit', `a backend of type ${type.case} takes no such proof`);
  }
  if (type.case !== 'ssh') return undefined;
  if (login === '') return refusal('login.missing', 'an SSH session needs a login');
  return Object.hasOwn(type.value.logins, login)
    ? undefined
    : refusal('login.gone', 'that backend declares no such login');
}
