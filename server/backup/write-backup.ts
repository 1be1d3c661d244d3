import { createHash } from 'node:crypto';
import type { Reader, Row, SqlValue } from '../plugins/datastore/datastore.ts';
import type { KeyManager } from '../plugins/key-manager/key-manager.ts';
import { type BackupHead, type BackupLine, cellOf } from './backup-format.ts';
import { type BackedUpTable, tablesOf } from './tables.ts';

const PAGE = 500;
const CHUNK_BYTES = 256 * 1024;

/** A private key of the authorities; a key manager that gives none out has none to back up. */
export interface BackedUpKey {
  readonly id: string;
  /** PKCS#8. */
  readonly pem: string;
}

/**
 * The whole backup, in chunks of a few hundred kilobytes.
 * @param reader of one moment: rows of several tables have to fit each other
 */
export async function* writeBackup(
  reader: Reader,
  head: BackupHead,
  keys: AsyncIterable<BackedUpKey>,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  let lines = 0;
  let pending: Buffer[] = [];
  let bytes = 0;
  const put = (line: BackupLine) => {
    const text = Buffer.from(`${JSON.stringify(line)}\n`);
    hash.update(text);
    lines += 1;
    pending.push(text);
    bytes += text.length;
  };
  const flushed = () => {
    const chunk = Buffer.concat(pending);
    pending = [];
    bytes = 0;
    return chunk;
  };

  put(head);
  for (const table of tablesOf(head.schema)) {
    let isFirst = true;
    for await (const row of rowsOf(reader, table)) {
      if (isFirst) put({ table: table.name, columns: Object.keys(row) });
      isFirst = false;
      put({ row: Object.values(row).map(cellOf) });
      if (bytes >= CHUNK_BYTES) yield flushed();
    }
  }
  for await (const { id, pem } of keys) put({ key: id, pem });
  pending.push(Buffer.from(`${JSON.stringify({ lines, sha256: hash.digest('hex') })}\n`));
  yield flushed();
}

/** The keys that a key manager gives out: none where a KMS keeps them, and a restored server finds them. */
export async function* backedUpKeys({ exportKeys }: KeyManager): AsyncGenerator<BackedUpKey> {
  if (exportKeys !== undefined) yield* exportKeys();
}

/** By pages along the key, so that no table has to fit into memory. */
async function* rowsOf(reader: Reader, { name, key }: BackedUpTable): AsyncGenerator<Row> {
  const columns = key.join(', ');
  const marks = key.map(() => '?').join(', ');
  let after: SqlValue[] | undefined;
  for (;;) {
    const where = after === undefined ? '' : `where (${columns}) > (${marks})`;
    const sql = `select * from ${name} ${where} order by ${columns} limit ${PAGE}`;
    const rows = await reader.all(sql, ...(after ?? []));
    yield* rows;
    const last = rows.at(-1);
    if (last === undefined || rows.length < PAGE) return;
    after = key.map((column) => last[column] ?? null);
  }
}
