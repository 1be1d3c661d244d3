import { setImmediate as breathe } from 'node:timers/promises';
import { fromBinary } from '@bufbuild/protobuf';
import { type Entry, EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { SPIFFEID } from '../../proto/gen/spire/api/types/spiffeid_pb.ts';
import type { Reader, Row } from '../plugins/datastore/datastore.ts';
import { blob, integer, text } from '../plugins/datastore/row.ts';
import { idText, type Standing } from './entry-index.ts';

const PAGE = 1000;

/**
 * All entries of the store, by id, in pieces between which there is time for other work; what many of
 * them have in common is in memory once.
 */
export async function* loadEntries(reader: Reader): AsyncGenerator<readonly Entry[]> {
  const share = sharing();
  const pages = readPages(
    reader,
    'id',
    'select id, body from entries where id > ? order by id limit ?',
  );
  for await (const rows of pages)
    yield rows.map((row) => share(fromBinary(EntrySchema, blob(row, 'body'))));
}

export type StandingOf = readonly [spiffeId: string, standing: Standing];

/** What all identity records say about issuing, by SPIFFE ID, in pieces as well. */
export async function* loadStandings(reader: Reader): AsyncGenerator<readonly StandingOf[]> {
  const sql = `select spiffe_id, status, expires_at_ms from identities
     where spiffe_id > ? order by spiffe_id limit ?`;
  for await (const rows of readPages(reader, 'spiffe_id', sql))
    yield rows.map((row): StandingOf => {
      const isActive = text(row, 'status') === 'active';
      return [text(row, 'spiffe_id'), { isActive, expiresAtMs: integer(row, 'expires_at_ms') }];
    });
}

/** @param sql with places for the key after which a page begins and for its size */
async function* readPages(
  reader: Reader,
  key: string,
  sql: string,
): AsyncGenerator<readonly Row[]> {
  const read = (after: string) => reader.all(sql, after, PAGE);
  let next = read('');
  for (;;) {
    const rows = await next;
    const last = rows.at(-1);
    if (last === undefined) return;
    // A database of its own reads on while this process is busy with the page before.
    next = read(text(last, key));
    next.catch(() => undefined);
    yield rows;
    await breathe();
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
