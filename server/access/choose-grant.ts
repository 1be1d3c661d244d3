import { timestampDate } from '@bufbuild/protobuf/wkt';
import type { Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { type Refusal, refusal } from './refusal.ts';

/** What a client asks for. */
export interface GrantWish {
  readonly spiffeId: string;
  readonly backend: string;
  /** Untrusted; empty if the client named none. */
  readonly grant: string;
}

const LISTED_GRANTS = 20;

/** The one grant that fits; never a union of several (threats S13). */
export function chooseGrant(grants: readonly Grant[], wish: GrantWish, now: Date): Grant | Refusal {
  const held = grants.filter(
    ({ identity, backend }) => identity === wish.spiffeId && backend === wish.backend,
  );
  if (held.length === 0) {
    return refusal('grant.none', `${wish.spiffeId} holds no grant on that backend`);
  }
  const fitting = wish.grant === '' ? held : held.filter(({ name }) => name === wish.grant);
  if (fitting.length === 0) {
    return refusal('grant.not_held', `you hold no such grant, but ${listOf(held)}`);
  }
  const live = fitting.filter((grant) => isLive(grant, now));
  const [grant, ...others] = live;
  if (grant === undefined) return refusal('grant.expired', `expired: ${listOf(fitting)}`);
  if (others.length > 0) {
    return refusal(
      'grant.several',
      `you hold several grants on this backend: name one of ${listOf(live)} as the user`,
    );
  }
  return grant;
}

function isLive(grant: Grant, now: Date): boolean {
  return grant.expiresAt !== undefined && timestampDate(grant.expiresAt) > now;
}

function listOf(grants: readonly Grant[]): string {
  const names = grants.map(({ name }) => name).sort();
  const more = names.length - LISTED_GRANTS;
  return names.slice(0, LISTED_GRANTS).join(', ') + (more > 0 ? ` and ${more} more` : '');
}
