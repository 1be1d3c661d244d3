/** Recovers a value by questions alone, character by character (facts/gateway.md 2.1, inference). */
import type pg from 'pg';

const ALPHABET = '0123456789-';

/** @returns what counts tell of the column's value in row 1; `?` where no character fits */
export async function infer(
  client: pg.Client,
  { table, column, length }: { table: string; column: string; length: number },
): Promise<string> {
  let found = '';
  for (let place = 1; place <= length; place += 1) {
    let character = '?';
    for (const guess of ALPHABET) {
      const { rows } = await client.query(
        `select count(*)::int as n from ${table} where id = 1 and substr(${column}::text, $1, 1) = $2`,
        [place, guess],
      );
      if (rows[0].n === 1) character = guess;
    }
    found += character;
  }
  return found;
}
