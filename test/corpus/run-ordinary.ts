/** Runs ordinary statements through the gateway and by a login with the same rights, and compares. */
import type pg from 'pg';
import { ORDINARY } from './ordinary.ts';
import type { OrdinaryStatement } from './ordinary-set.ts';

export interface OrdinaryConnection {
  readonly client: pg.Client;
  /** The role that the connection runs as: told apart from the other one's. */
  readonly role: string;
}

export interface Difference {
  readonly program: string;
  readonly sql: string;
  readonly direct: string;
  readonly through: string;
}

export interface OrdinaryReport {
  readonly programs: readonly { readonly program: string; readonly statements: number }[];
  readonly differences: readonly Difference[];
  /** Statements that fail without the gateway too, and so say nothing of it. */
  readonly failing: readonly string[];
}

/** @param reset puts the tables back to what they were */
export async function runOrdinary(options: {
  readonly direct: OrdinaryConnection;
  readonly through: OrdinaryConnection;
  readonly reset: () => Promise<unknown>;
}): Promise<OrdinaryReport> {
  const { direct, through, reset } = options;
  const differences: Difference[] = [];
  const failing: string[] = [];
  for (const { program, statements } of ORDINARY) {
    await reset();
    const expected = await answersOf(direct, statements);
    await reset();
    const got = await answersOf(through, statements);
    for (const [index, statement] of statements.entries()) {
      const [wanted = '', given = ''] = [expected[index], got[index]];
      if (!wanted.startsWith('[')) failing.push(`${textOf(statement)}: ${wanted}`);
      if (wanted === given) continue;
      differences.push({ program, sql: textOf(statement), direct: wanted, through: given });
    }
  }
  const programs = ORDINARY.map(({ program, statements }) => ({
    program,
    statements: statements.length,
  }));
  return { programs, differences, failing };
}

async function answersOf(
  connection: OrdinaryConnection,
  statements: readonly OrdinaryStatement[],
): Promise<string[]> {
  const answers: string[] = [];
  for (const statement of statements) answers.push(await answerOf(connection, statement));
  await connection.client.query('rollback');
  await connection.client.query('reset all');
  return answers;
}

const RAW = { getTypeParser: () => (value: unknown) => value };

async function answerOf(
  { client, role }: OrdinaryConnection,
  statement: OrdinaryStatement,
): Promise<string> {
  const values = typeof statement === 'string' ? undefined : statement.values;
  const varies = typeof statement !== 'string' && statement.varies === true;
  const query = { text: textOf(statement), rowMode: 'array' as const, types: RAW };
  const copied: string[] = [];
  const { connection } = client as unknown as { connection: NodeJS.EventEmitter };
  const note = ({ chunk }: { chunk: Buffer }) => copied.push(chunk.toString('latin1'));
  connection.on('copyData', note);
  try {
    const result: pg.QueryResult | pg.QueryResult[] = await client.query(
      values === undefined ? query : { ...query, values: [...values] },
    );
    const told = [result].flat().map(({ command, rowCount, fields, rows }) => ({
      command,
      fields: fields.map(({ name, dataTypeID, tableID, columnID }) => [
        name,
        dataTypeID,
        tableID,
        columnID,
      ]),
      ...(varies ? {} : { rowCount, rows }),
    }));
    return JSON.stringify([told, copied]).replaceAll(role, 'the role');
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    return `${code}: ${message}`;
  } finally {
    connection.removeListener('copyData', note);
  }
}

function textOf(statement: OrdinaryStatement): string {
  return typeof statement === 'string' ? statement : statement.sql;
}
