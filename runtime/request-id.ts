import { randomUUID } from 'node:crypto';

/**
 * The id of one call, which nobody outside chooses. It travels with the caller and the actor: grpc-js
 * loses an AsyncLocalStorage before the handler, and one costs each promise of a call on Node 20.
 */
export function newRequestId(): string {
  // Node draws the randomness of many UUIDs at once; randomBytes goes to OpenSSL each time.
  return `r_${randomUUID().replaceAll('-', '')}`;
}
