import { fromBinary } from '@bufbuild/protobuf';
import { type Entry, EntrySchema } from '../../proto/gen/spire/api/types/entry_pb.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { blob, integer, text } from '../plugins/datastore/row.ts';
import type { Standing } from './entry-index.ts';

const PAGE = 2000;

/** All entries of the store, by id. */
export async function* loadEntries(reader: Reader): AsyncGenerator<Entry> {
  for (let after = ''; ; ) {
    const rows = await reader.all(
      'select id, body from entries where id > ? order by id limit ?',
      after,
      PAGE,
    );
    for (const row of rows) yield fromBinary(EntrySchema, blob(row, 'body'));
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
