/**
 * The agent IDs of join tokens. SPIRE's carry the token, and what is written for SPIRE names such an
 * agent by its token: as parent of an entry, in a node alias, to ban it. Ours carry a handle, which is
 * made from the token one way, so that the token can be named and yet is never kept.
 */
import { createHash } from 'node:crypto';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { base32 } from '../access/random-id.ts';

const HANDLE = /^j_[a-z2-7]{26}$/;
const TOKEN_ID = /^(spiffe:\/\/[^/]+\/spire\/agent\/join_token\/)([^/]+)$/;
const HANDLE_BYTES = 16;

/** The public name of a token: safe in SPIFFE IDs and logs, for it tells nothing of a random one. */
export function joinTokenHandle(token: string): string {
  const hash = createHash('sha256').update('writ join token handle\0').update(token).digest();
  return `j_${base32(hash.subarray(0, HANDLE_BYTES))}`;
}

/** The ID with the handle in the place of a token; any other ID as it is. */
export function withoutToken(id: SpiffeId): SpiffeId {
  const text = id.toString();
  const safe = textWithoutToken(text);
  return safe === text ? id : SpiffeId.parse(safe);
}

/** The same for text that may be an ID. */
export function textWithoutToken(text: string): string {
  const [, prefix, name] = TOKEN_ID.exec(text) ?? [];
  if (prefix === undefined || name === undefined || HANDLE.test(name)) return text;
  return prefix + joinTokenHandle(name);
}
