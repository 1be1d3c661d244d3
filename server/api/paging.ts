import { Fault } from '../../runtime/fault.ts';

const MAXIMUM_TOKEN = 4096;

export interface Page<T> {
  readonly items: readonly T[];
  /** Empty after the last page. */
  readonly nextPageToken: string;
}

/**
 * One page of a list that is ordered by id, so that each item comes once while others are added.
 * @param asked untrusted; a size of 0 or, as in SPIRE, less is everything
 * @param after the wanted items behind an id, in order
 * @throws Fault INVALID_ARGUMENT
 */
export function pageOf<T extends { readonly id: string }>(
  asked: { readonly pageSize: number; readonly pageToken: string },
  after: (id: string) => Iterable<T>,
): Page<T> {
  const { pageSize, pageToken } = asked;
  const items: T[] = [];
  for (const item of after(idOf(pageToken))) {
    if (pageSize > 0 && items.length === pageSize)
      return { items, nextPageToken: tokenOf(items.at(-1)?.id ?? '') };
    items.push(item);
  }
  return { items, nextPageToken: '' };
}

function tokenOf(id: string): string {
  return Buffer.from(id).toString('base64url');
}

/**
 * The id behind which the page of a token begins.
 * @param token untrusted
 * @throws Fault INVALID_ARGUMENT
 */
export function idOf(token: string): string {
  const id = Buffer.from(token, 'base64url').toString('utf8');
  if (token.length > MAXIMUM_TOKEN || tokenOf(id) !== token)
    throw new Fault('INVALID_ARGUMENT', 'page_token is not one of this server');
  return id;
}
