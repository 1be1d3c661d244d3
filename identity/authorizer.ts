import type { SpiffeId } from './spiffe-id.ts';

/** Whether a peer that has proven this identity is the one that is wanted. */
export type Authorizer = (id: SpiffeId) => boolean;

/** Exactly this identity. */
export function authorizeId(wanted: SpiffeId): Authorizer {
  const text = wanted.toString();
  return (id) => id.toString() === text;
}

/** Whoever verifies: for calls that authorise by other means. */
export function authorizeAny(): Authorizer {
  return () => true;
}
