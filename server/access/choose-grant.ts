import { timestampDate } from '@bufbuild/protobuf/wkt';
import type { Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { type Refusal, refusal } from './refusal.ts';

/** What a client asks for. */
export interface GrantWish {
  readonly spiffeId: string;
  readonly backend: string;
  /** Untrusted; empty if the client named none. */
  readonly grant: string;
  /** Untrusted; empty where the protocol has no logins. */
  readonly login: string;
}

const LISTED = 20;

/** The one grant that fits; never a union of several (threats S13). */
export function chooseGrant(grants: readonly Grant[], wish: GrantWish, now: Date): Grant | Refusal {
  const held = grants.filter(
    ({ identity, backend }) => identity === wish.spiffeId && backend === wish.backend,
  );
  if (held.length === 0) {
    return refusal('grant.none', `${wish.spiffeId} holds no grant on that backend`);
  }
  const named = wish.grant === '' ? held : held.filter(({ name }) => name === wish.grant);
  if (named.length === 0) {
    return refusal('grant.not_held', `you hold no such grant, but ${listOf(namesOf(held))}`);
  }
  const fitting = wish.login === '' ? named : named.filter((one) => givesLogin(one, wish.login));
  if (fitting.length === 0) {
    return refusal('login.not_granted', `that login is not granted, but ${loginsOf(named)}`);
  }
  const live = fitting.filter((grant) => isLive(grant, now));
  const [grant, ...others] = live;
  if (grant === undefined) return refusal('grant.expired', `expired: ${listOf(namesOf(fitting))}`);
  if (others.length > 0) {
    const how = wish.login === '' ? 'as the user' : 'after the user name and a +';
    return refusal(
      'grant.several',
      `you hold several grants on this backend: name one of ${listOf(namesOf(live))} ${how}`,
    );
  }
  return grant;
}

/** Whether a grant lets its holder log in as `login` by SSH. */
export function givesLogin({ rights }: Grant, login: string): boolean {
  return rights.case === 'ssh' && rights.value.logins.includes(login);
}

/** Whether a grant has not expired. */
export function isLive(grant: Grant, now: Date): boolean {
  return grant.expiresAt !== undefined && timestampDate(grant.expiresAt) > now;
}

function namesOf(grants: readonly Grant[]): string[] {
  return grants.map(({ name }) => name);
}

function loginsOf(grants: readonly Grant[]): string {
  const logins = grants.flatMap(({ rights }) => (rights.case === 'ssh' ? rights.value.logins : []));
  return listOf([...new Set(logins)]) || 'none on this backend';
}

function listOf(names: readonly string[]): string {
  const more = names.length - LISTED;
  return [...names].sort().slice(0, LISTED).join(', ') + (more > 0 ? ` and ${more} more` : '');
}
