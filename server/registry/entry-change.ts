import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Actor } from '../access/actor.ts';
import type { EventInit } from '../audit/audit-log.ts';
import { idText } from './entry-index.ts';
import type { IdentityDefaults } from './identities.ts';
import { selectorText } from './selectors.ts';

/** Bounds on whoever changes entries. */
export interface EntryBounds {
  /** What the record of a new SPIFFE ID says; undefined: what the server's defaults say. */
  readonly identityDefaults: IdentityDefaults | undefined;
  /** @throws Fault PERMISSION_DENIED unless an entry that is there may be changed */
  requireOwn(entry: Entry): void;
  /** @throws Fault PERMISSION_DENIED unless an entry may be written as it is */
  requireWithin(entry: Entry): Promise<void>;
}

export interface EntryChange {
  readonly actor: Actor;
  /** None for the server itself and for operators. */
  readonly bounds?: EntryBounds;
  /** Lets SPIFFE IDs under `/spire` and `/writ` through: for what the server itself makes. */
  readonly allowReserved?: boolean;
}

type Attributes = NonNullable<EventInit['attributes']>;

/** What the log tells of an entry. @param attributes `entryAttributes` of it, or of one like it */
export function entryEvent(
  type: string,
  entry: Entry,
  actor: Actor,
  attributes = entryAttributes(entry),
): EventInit {
  const spiffeId = idText(entry.spiffeId);
  return { type, outcome: Outcome.SUCCESS, actor, spiffeId, entryId: entry.id, attributes };
}

export function entryAttributes(entry: Entry): Attributes {
  return {
    parent_id: idText(entry.parentId),
    revision: String(entry.revisionNumber),
    selectors: entry.selectors.map(selectorText).join(' ').slice(0, 2048),
  };
}
