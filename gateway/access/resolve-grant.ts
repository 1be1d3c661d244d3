/**
 * Which grant a client may use. The answer is the gateway's own, from its snapshot; the server decides
 * again when the session opens. Whether a backend exists is told only to who holds a grant on it.
 */
import { timestampDate } from '@bufbuild/protobuf/wkt';
import type { Backend, Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import {
  claimantOf,
  clientName,
  type DatabasePlace,
  databaseOfGrant,
  databasePlace,
  type NamedDatabase,
} from './database-place.ts';
import type { GatewaySnapshot } from './snapshot.ts';

export interface Wish extends NamedDatabase {
  /** Untrusted; empty if the client named none. */
  readonly grant: string;
  /** Untrusted; what an SSH client asks for, undefined for all others. */
  readonly login?: string;
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
  const isSsh = wish.login !== undefined;
  const place = isSsh ? sshPlace(snapshot, wish) : databasePlace(snapshot, wish);
  const held = place === undefined ? [] : grantsAt(snapshot, place, wish);
  if (held.length === 0 || place === undefined) throw denied(nothingThere(snapshot, place, wish));
  const { backend } = place;
  const usable = held.filter(({ rights }) => (rights.case === 'ssh') === isSsh);
  if (usable.length === 0 || (backend.type.case === 'ssh') !== isSsh) {
    throw denied(`what you hold on ${shown(wish.backend)} is not for this protocol`);
  }
  const fitting = wish.grant === '' ? usable : usable.filter(({ name }) => name === wish.grant);
  const live = fitting.filter((grant) => isLive(grant, now));
  if (live.length === 0) throw denied(noneFits(wish, usable, fitting));
  const [grant, ...others] = live.filter((one) => givesLogin(one, wish));
  if (grant === undefined) throw denied(noLogin(wish, live));
  if (others.length > 0) throw denied(severalGrants(wish, [grant, ...others]));
  return { grant, backend };
}

function sshPlace({ backends }: GatewaySnapshot, wish: Wish): DatabasePlace | undefined {
  const backend = backends.get(wish.backend);
  return backend === undefined ? undefined : { backend, database: '' };
}

function grantsAt(
  snapshot: GatewaySnapshot,
  { backend, database }: DatabasePlace,
  { spiffeId }: Wish,
): Grant[] {
  return grantsOn(snapshot, backend, spiffeId).filter(
    (grant) => databaseOfGrant(grant) === database,
  );
}

function grantsOn({ grants }: GatewaySnapshot, backend: Backend, spiffeId: string): Grant[] {
  return [...grants.values()].filter(
    (grant) => grant.identity === spiffeId && grant.backend === backend.name,
  );
}

/** Tells of a backend only what a grant on it has told already. */
function nothingThere(
  snapshot: GatewaySnapshot,
  place: DatabasePlace | undefined,
  { spiffeId, backend: name, serverName = '' }: Wish,
): string {
  const claimant = claimantOf(snapshot, serverName);
  const backend = place?.backend ?? claimant;
  const elsewhere = backend === undefined ? [] : grantsOn(snapshot, backend, spiffeId);
  if (backend === undefined || elsewhere.length === 0) {
    return `${spiffeId} holds no grant on ${shown(name)}`;
  }
  const theirs = new Set(elsewhere.map((one) => clientName(one.backend, databaseOfGrant(one))));
  const names = listOf([...theirs].map((one) => ({ name: one })));
  return place === undefined
    ? `server name ${shown(serverName)} is that of backend ${backend.name}, which has no database ${shown(name)}: you hold grants on ${names}`
    : `you hold no grant on ${shown(name)}, but on ${names}`;
}

/** The grants by which an identity may log in anywhere, or on one backend, over SSH. */
export function liveSshGrants(
  snapshot: GatewaySnapshot,
  holder: { readonly spiffeId: string; readonly backend?: string },
  now: Date,
): Grant[] {
  const { spiffeId, backend } = holder;
  return [...snapshot.grants.values()].filter(
    (grant) =>
      grant.identity === spiffeId &&
      (backend === undefined || grant.backend === backend) &&
      snapshot.backends.get(grant.backend)?.type.case === 'ssh' &&
      grant.rights.case === 'ssh' &&
      isLive(grant, now),
  );
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

function givesLogin({ rights }: Grant, { login }: Wish): boolean {
  if (login === undefined) return true;
  return rights.case === 'ssh' && rights.value.logins.includes(login);
}

function severalGrants({ backend, login }: Wish, grants: readonly Grant[]): string {
  const where = login === undefined ? 'as the user' : 'behind the user, after a +';
  return `you hold several grants on ${shown(backend)}: name one of ${listOf(grants)} ${where}`;
}

function noLogin({ backend, login = '' }: Wish, grants: readonly Grant[]): string {
  const logins = grants.flatMap(({ rights }) => (rights.case === 'ssh' ? rights.value.logins : []));
  const names = listOf([...new Set(logins)].map((name) => ({ name })));
  return `you have no login ${shown(login)} on ${shown(backend)}, but ${names}`;
}

function noneFits(wish: Wish, held: readonly Grant[], fitting: readonly Grant[]): string {
  if (fitting.length === 0) {
    return `you hold no grant ${shown(wish.grant)} on ${shown(wish.backend)}, but ${listOf(held)}`;
  }
  const end = fitting.length === 1 ? 'has' : 'have';
  return `${listOf(fitting)} on ${shown(wish.backend)} ${end} expired`;
}

function listOf(named: readonly { readonly name: string }[]): string {
  const names = named.map(({ name }) => name).sort();
  const more = names.length - LISTED_GRANTS;
  return names.slice(0, LISTED_GRANTS).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function denied(message: string): Fault {
  return new Fault('PERMISSION_DENIED', message);
}
