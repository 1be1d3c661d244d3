/**
 * G36: what the gateway says of a text beside what PostgreSQL says of it. The server's own view is had
 * by the extended protocol, which takes one statement alone, in a transaction that can only read: its
 * error or the command's tag tells what it was.
 */
import assert from 'node:assert/strict';
import { parseSync } from 'libpg-query';
import pg from 'pg';
import {
  POSTGRES_VERSIONS,
  postgresTitle,
  requirePostgres,
  startPostgres,
  type TestPostgres,
} from '../../../../../test/fixtures/postgres.ts';
import { SettingRules } from '../client/setting-rules.ts';
import { guardStatement } from './guard-statement.ts';
import { StatementReader } from './statement.ts';
import type { StatementFacts } from './statement-facts.ts';

const BASE = [
  "select a, 'x''y' from t where a = 1 and b = 'z' order by 1",
  "select E'a\\'b', $$c;d$$, $q$ e $q$ from t",
  'select * from t for update',
  'select * into u from t',
  'with w as (delete from t where a = 1 returning a) select * from w',
  'with w as (select 1 as a) insert into t (a) select a from w',
  "insert into t (a, b) values (1, 'x') on conflict (a) do update set b = excluded.b",
  "update t set b = 'x' where a in (1, 2)",
  'delete from t using t as o where t.a = o.a',
  'merge into t using t as o on t.a = o.a when matched then delete',
  'truncate t',
  'drop table t',
  "create table u as select 'x' as a",
  'create view v as select a from t',
  'alter table t add column c int',
  'grant select on t to public',
  'do $$ begin perform 1; end $$',
  'explain (analyze, costs off) delete from t where a = 1',
  "copy t to program 'true'",
  'lock table t in share mode',
  "set work_mem = '1MB'",
  'vacuum t',
  'select 1; select 2',
  'select 1 /* a /* nested */ comment */ from t -- end',
  'select U&"d\\0061t", "a""b" from t',
  'values (1), (2)',
] as const;

const PIECES = [
  ...[
    "'",
    '"',
    '$$',
    '$q$',
    '\\',
    "''",
    '/*',
    '*/',
    '--',
    '\n',
    ';',
    '(',
    ')',
    ',',
    '.',
    '::',
    ':=',
  ],
  ...[
    ' ',
    '\t',
    '\f',
    '\v',
    '\u00a0',
    '\u2028',
    'é',
    '\ufeff',
    '1',
    '1e',
    '0x1',
    '1_0',
    'E',
    'U&',
    'N',
    'B',
  ],
  ...[
    'delete from t',
    'select',
    'update',
    'drop table t',
    ' or true',
    '; delete from t --',
    'into u',
    '$1',
  ],
];

const TEXTS = 5000;
const SEED = 20_261_125;
/** Runs on the server's host, which a transaction does not undo. */
const NEVER_SENT = /program/i;
/** Tags of commands that only read; empty for a text without a statement. */
const READS: ReadonlySet<string> = new Set(['', 'SELECT', 'EXPLAIN', 'SET', 'SHOW']);
/** Errors of a statement that would change something, in a transaction that cannot. */
const CHANGING: ReadonlySet<string> = new Set(['25006', '25001']);
/** Texts that no parser takes: bad escapes, bytes, numbers. */
const SYNTACTIC: ReadonlySet<string> = new Set([
  '22025',
  '22021',
  '22P06',
  '22023',
  '42602',
  '22003',
]);

type Below = (most: number) => number;

function mutations(): string[] {
  let state = SEED;
  const below: Below = (most) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * most);
  };
  const texts: string[] = [...BASE];
  while (texts.length < TEXTS) {
    let text = pick(BASE, below);
    for (let left = 1 + below(3); left > 0; left -= 1) text = mutated(text, below);
    texts.push(text);
  }
  return texts;
}

function mutated(text: string, below: Below): string {
  const at = below(text.length + 1);
  const before = text.slice(0, at);
  switch (below(4)) {
    case 0:
      return before + pick(PIECES, below) + text.slice(at);
    case 1:
      return before + text.slice(at + 1 + below(4));
    case 2:
      return before + pick(BASE, below).slice(below(10)) + text.slice(at);
    default:
      return before + text.slice(at).toUpperCase();
  }
}

function pick(from: readonly string[], below: Below): string {
  return from[below(from.length)] ?? '';
}

for (const version of POSTGRES_VERSIONS) {
  describe(`the reading of statements beside ${postgresTitle(version)}`, function () {
    this.timeout(120_000);
    let server: TestPostgres;
    let client: pg.Client;
    let reader: StatementReader;
    before(async function () {
      requirePostgres(this, version);
      await StatementReader.load();
      reader = new StatementReader({ classified: new Map(), cacheBytes: 1_000_000 });
      server = await startPostgres({ version, tls: false });
      await server.exec('create table t (a int primary key, b text)');
      client = new pg.Client({ connectionString: server.superuserUrl });
      await client.connect();
    });
    after(async () => {
      await client?.end();
      await server?.[Symbol.asyncDispose]();
    });

    it(`G36: takes none of ${TEXTS} texts for less than the server takes it for`, async () => {
      const wrong: string[] = [];
      const seen = { passed: 0, refused: 0 };
      for (const sql of mutations()) {
        const facts = reader.read(sql);
        const refused = guardStatement(
          facts,
          { statements: ['read'], rules: undefined },
          new SettingRules(),
        );
        seen[refused === undefined ? 'passed' : 'refused'] += 1;
        if (await disagrees(client, { sql, facts, refused })) wrong.push(JSON.stringify(sql));
      }
      assert.deepEqual(wrong, []);
      assert.ok(seen.passed > 200 && seen.refused > 200, JSON.stringify(seen));
    });
  });
}

interface ServerView {
  /** Undefined if the server does not parse it. */
  readonly isSeveral: boolean | undefined;
  readonly changes: boolean;
}

interface Read {
  readonly sql: string;
  readonly facts: StatementFacts;
  readonly refused: string | undefined;
}

/** Whether the server sees more statements, or does more, than the gateway believes. */
async function disagrees(client: pg.Client, { sql, facts, refused }: Read): Promise<boolean> {
  if (facts.class === 'unparsed') return false;
  const count = statementsIn(sql);
  // The memory of shapes must not know texts that the parser does not take.
  if (count < 0) return true;
  if (NEVER_SENT.test(facts.text)) return false;
  const { isSeveral, changes } = await askServer(client, sql);
  const countsDiffer = isSeveral !== undefined && isSeveral !== count > 1;
  return countsDiffer || (refused === undefined && changes);
}

/** -1 for a text that does not parse. */
function statementsIn(sql: string): number {
  try {
    return parseSync(sql).stmts?.length ?? 0;
  } catch {
    return -1;
  }
}

/** Runs it in a transaction that can only read and is undone. */
async function askServer(client: pg.Client, sql: string): Promise<ServerView> {
  await client.query('begin read only');
  try {
    const config = { text: sql, queryMode: 'extended' };
    const result = await client.query(config);
    return { isSeveral: false, changes: !READS.has(result.command ?? '') };
  } catch (error) {
    const { code = '', message } = error as pg.DatabaseError;
    if (code === '42601') {
      const isSeveral = message.includes('multiple commands');
      return { isSeveral: isSeveral ? true : undefined, changes: false };
    }
    return { isSeveral: SYNTACTIC.has(code) ? undefined : false, changes: CHANGING.has(code) };
  } finally {
    await client.query('rollback');
  }
}
