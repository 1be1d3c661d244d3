import type { Duplex } from 'node:stream';
import pg from 'pg';

export interface Answer {
  /** SQLSTATE of its refusal. */
  readonly code: string | undefined;
  /** All bytes of the server: rows in text or binary, COPY data, errors, notices and settings. */
  readonly said: Buffer;
}

/** pg parses no cell. */
const UNPARSED = { getTypeParser: () => (value: unknown) => value };

/** Runs statements in a transaction that is rolled back, and keeps every byte that comes back. */
export async function answerOf(
  client: pg.Client,
  { sql, binary }: { sql: string; binary: boolean },
): Promise<Answer> {
  const { stream } = (client as unknown as { connection: { stream: Duplex } }).connection;
  const chunks: Buffer[] = [];
  const hear = (chunk: Buffer) => chunks.push(Buffer.from(chunk));
  const query = { text: sql, rowMode: 'array', types: UNPARSED, ...(binary && { binary }) };
  await client.query('begin');
  stream.on('data', hear);
  let code: string | undefined;
  try {
    await client.query(query as pg.QueryConfig);
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error;
    code = error.code ?? 'XX000';
  } finally {
    await client.query('rollback');
    stream.off('data', hear);
  }
  return { code, said: Buffer.concat(chunks) };
}
