import assert from 'node:assert/strict';
import { StatementReader } from './statement.ts';

const OF_PG_DUMP = `SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'`;

describe('the setting that pg_dump restricts itself by', () => {
  const reader = new StatementReader({ classified: new Map(), cacheBytes: 1 << 20 });
  const verdictOn = (sql: string) => reader.read(sql).verdict;

  before(() => StatementReader.load());

  it('may be changed in the words of pg_dump alone, however often they came before', () => {
    for (let times = 0; times < 3; times += 1) {
      assert.equal(verdictOn(OF_PG_DUMP).forbidden, undefined);
    }
    for (const sql of [
      OF_PG_DUMP.replace('restrict_nonsystem_relation_kind', 'client_encoding'),
      OF_PG_DUMP.replace('view, foreign-table', 'off'),
      OF_PG_DUMP.replace('pg_settings', 'mine.pg_settings'),
      OF_PG_DUMP.replace(' WHERE', ', others WHERE'),
      `${OF_PG_DUMP} OR true`,
      `${OF_PG_DUMP}; ${OF_PG_DUMP.replace('restrict_nonsystem_relation_kind', 'role')}`,
    ]) {
      assert.equal(verdictOn(sql).forbidden, 'pinned-setting', sql);
    }
  });

  it('is a read', () => {
    assert.deepEqual(verdictOn(OF_PG_DUMP).needs, ['read']);
  });
});
