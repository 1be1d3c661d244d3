import type { VerbIo } from './verb.ts';

/**
 * Prints a listing: with `json` one JSON document of all rows, else aligned columns under a heading.
 * Control characters of a cell are shown as `?`, so that no name can move a terminal's cursor.
 */
export function printTable(
  io: Pick<VerbIo, 'out'>,
  rows: readonly Readonly<Record<string, string | number>>[],
  columns: readonly string[],
  json: boolean,
): void {
  if (json) {
    io.out(JSON.stringify(rows, undefined, 2));
    return;
  }
  const cells = rows.map((row) => columns.map((column) => printable(String(row[column] ?? ''))));
  const heading = columns.map((column) => column.toUpperCase().replaceAll('_', ' '));
  const widths = columns.map((_, at) =>
    Math.max(...[heading, ...cells].map((line) => line[at]?.length ?? 0)),
  );
  for (const line of [heading, ...cells]) {
    io.out(
      line
        .map((cell, at) => cell.padEnd(widths[at] ?? 0))
        .join('  ')
        .trimEnd(),
    );
  }
}

/** One thing: `name: value` lines, or its JSON. */
export function printRecord(
  io: Pick<VerbIo, 'out'>,
  record: Readonly<Record<string, unknown>>,
  json: boolean,
): void {
  if (json) {
    io.out(JSON.stringify(record, undefined, 2));
    return;
  }
  const width = Math.max(...Object.keys(record).map((name) => name.length));
  for (const [name, value] of Object.entries(record)) {
    const shown = typeof value === 'string' ? value : JSON.stringify(value);
    io.out(`${`${name}:`.padEnd(width + 2)}${printable(shown ?? '')}`);
  }
}

/** Text with every control and format character, bidirectional ones too, and every line end as `?`. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?');
}
