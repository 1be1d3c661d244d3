import { fromBinary } from '@bufbuild/protobuf';
import { type Entry, EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { SPIFFEID } from '../../proto/gen/spire/api/types/spiffeid_pb.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { blob, integer, text } from '../plugins/datastore/row.ts';
import { idText, type Standing } from './entry-index.ts';

const PAGE = 2000;

/** All entries of the store, by id; what many of them have in common is in memory once. */
export async function* loadEntries(reader: Reader): AsyncGenerator<Entry> {
  const share = sharing();
  for (let after = ''; ; ) {
    const rows = await reader.all(
      'select id, body from entries where id > ? order by id limit ?',
      after,
      PAGE,
    );
    for (const row of rows) yield share(fromBinary(EntrySchema, blob(row, 'body')));
    const last = rows.at(-1);
    if (last === undefined) return;
    after = text(last, 'id');
  }
}

/** What all identity records say about issuing, by SPIFFE ID. */
export async function* loadStandings(
  reader: Reader,
): AsyncGenerator<readonly [spiffeId: string, standing: Standing]> {
  for (let after = ''; ; ) {
    const rows = await reader.all(
      `select spiffe_id, status, expires_at_ms from identities
       where spiffe_id > ? order by spiffe_id limit ?`,
      after,
      PAGE,
    );
    for (const row of rows) {
      const isActive = text(row, 'status') === 'active';
      yield [text(row, 'spiffe_id'), { isActive, expiresAtMs: integer(row, 'expires_at_ms') }];
    }
    const last = rows.at(-1);
    if (last === undefined) return;
    after = text(last, 'spiffe_id');
  }
}

function sharing(): (entry: Entry) => Entry {
  const texts = new Map<string, string>();
  const parents = new Map<string, SPIFFEID>();
  const shared = (text: string) => kept(texts, text, text);
  return (entry) => {
    const { spiffeId, parentId, selectors } = entry;
    if (spiffeId !== undefined) spiffeId.trustDomain = shared(spiffeId.trustDomain);
    if (parentId !== undefined) entry.parentId = kept(parents, idText(parentId), parentId);
    for (const selector of selectors) selector.type = shared(selector.type);
    return entry;
  };
}

function kept<T>(pool: Map<string, T>, key: string, value: T): T {
  const known = pool.get(key);
  if (known === undefined) pool.set(key, value);
  return known ?? value;
}
