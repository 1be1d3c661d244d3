import { userInfo } from 'node:os';
import { SpiffeId, type TrustDomain } from '../../identity/spiffe-id.ts';
import type { Entry } from '../../proto/gen/spire/api/types/entry_pb.ts';

/** What the command may be. */
export interface JobEntry {
  readonly id: string;
  readonly spiffeId: SpiffeId;
  readonly hint: string;
}

/** What the command runs as, beside what its token says; the same selectors as an agent finds. */
export function processSelectors(): readonly string[] {
  const { uid, gid, username } = userInfo();
  return [`unix:uid:${uid}`, `unix:gid:${gid}`, `unix:user:${username}`];
}

/**
 * The entries whose selectors the job holds, in the order of their ids.
 * @param held `type:value`
 * @param wanted one identity alone; undefined for all
 */
export function jobEntries(
  entries: readonly Entry[],
  held: ReadonlySet<string>,
  { trustDomain, wanted }: { readonly trustDomain: TrustDomain; readonly wanted?: SpiffeId },
): JobEntry[] {
  return entries
    .filter(({ storeSvid, selectors }) => !storeSvid && selectors.length > 0)
    .filter(({ selectors }) => selectors.every(({ type, value }) => held.has(`${type}:${value}`)))
    .flatMap(({ id, spiffeId, hint }) => {
      const parsed = `spiffe://${spiffeId?.trustDomain}${spiffeId?.path}`;
      const isOurs = spiffeId?.trustDomain === trustDomain && id !== '';
      return isOurs ? [{ id, spiffeId: SpiffeId.parse(parsed), hint }] : [];
    })
    .filter(({ spiffeId }) => wanted === undefined || String(spiffeId) === String(wanted))
    .sort((a, b) => (a.id < b.id ? -1 : 1));
}
