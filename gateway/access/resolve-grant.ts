/**
 * Which grant a client may use. The answer is the gateway's own, from its snapshot; the server decides
 * again when the session opens. Whether a backend exists is told only to who holds a grant on it.
 */
import { timestampDate } from '@bufbuild/protobuf/wkt';
import type { Backend, Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { GatewaySnapshot } from './snapshot.ts';

export interface Wish {
  /** Untrusted. */
  readonly backend: string;
  /** Untrusted; empty if the client named none. */
  readonly grant: string;
  readonly spiffeId: string;
}

export interface Resolved {
  readonly grant: Grant;
  readonly backend: Backend;
}

const SHOWN_CHARACTERS = 80;
const LISTED_GRANTS = 20;

/**
 * The one grant that fits; never a union of several (threats S13).
 * @throws Fault PERMISSION_DENIED, whose message tells the client what to name
 */
export function resolveGrant(snapshot: GatewaySnapshot, wish: Wish, now: Date): Resolved {
  const held = [...snapshot.grants.values()].filter(
    (grant) => grant.identity === wish.spiffeId && grant.backend === wish.backend,
  );
  const backend = snapshot.backends.get(wish.backend);
  if (held.length === 0 || backend === undefined) {
    throw denied(`${wish.spiffeId} holds no grant on ${shown(wish.backend)}`);
  }
  const fitting = wish.grant === '' ? held : held.filter((grant) => grant.name === wish.grant);
  const live = fitting.filter((grant) => isLive(grant, now));
  const [grant, ...others] = live;
  if (others.length > 0) throw denied(severalGrants(wish.backend, live));
  if (grant === undefined) throw denied(noneFits(wish, held, fitting));
  return { grant, backend };
}

/** A name from the wire as a message may show it: quoted, ASCII, at most 80 characters. */
export function shown(name: string): string {
  return JSON.stringify(printable(name, SHOWN_CHARACTERS));
}

/** Text from the wire with all that is not printable ASCII replaced, cut to `length`. */
export function printable(text: string, length: number): string {
  return text.slice(0, length).replaceAll(/[^\x20-\x7e]/g, '?');
}

function isLive(grant: Grant, now: Date): boolean {
  return grant.expiresAt !== undefined && timestampDate(grant.expiresAt) > now;
}

function severalGrants(backend: string, grants: readonly Grant[]): string {
  return `you hold several grants on ${shown(backend)}: name one of ${listOf(grants)} as the user`;
}

function noneFits(wish: Wish, held: readonly Grant[], fitting: readonly Grant[]): string {
  if (fitting.length === 0) {
    return `you hold no grant ${shown(wish.grant)} on ${shown(wish.backend)}, but ${listOf(held)}`;
  }
  const end = fitting.length === 1 ? 'has' : 'have';
  return `${listOf(fitting)} on ${shown(wish.backend)} ${end} expired`;
}

function listOf(grants: readonly Grant[]): string {
  const names = grants.map((grant) => grant.name).sort();
  const more = names.length - LISTED_GRANTS;
  return names.slice(0, LISTED_GRANTS).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function denied(message: string): Fault {
  return new Fault('PERMISSION_DENIED', message);
}
