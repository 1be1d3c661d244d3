import type { EventInit } from '../audit/audit-log.ts';

/** Who acted, as an audit event tells it. */
export type Actor = NonNullable<EventInit['actor']>;

/** What is done for a call. */
export interface Called {
  /** The call's, which its events carry. */
  readonly requestId?: string | undefined;
}

/** For what the server does by itself, e.g. when a time has passed. */
export const SERVER_ACTOR: Actor = { kind: 'server' };
