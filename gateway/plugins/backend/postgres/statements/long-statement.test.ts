import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { destructiveAttempts } from '../../../../../test/corpus/destructive.ts';
import { leakAttempts } from '../../../../../test/corpus/leaks.ts';
import { LEAK_CORPUS } from '../../../../../test/fixtures/leak-corpus.ts';
import { type LongFacts, readLong } from './long-statement.ts';
import { StatementReader } from './statement.ts';

const KEY = Buffer.alloc(32, 7);
const CLASSIFIED = ['ssn', 'email', 'name'];
const read = (sql: string) =>
  readLong({ text: Buffer.from(sql), classified: CLASSIFIED, hmacKey: KEY, forMasks: true });
const hmacOf = (sql: string) => createHmac('sha256', KEY).update(sql).digest();

const rows = (count: number, row: (n: number) => string) =>
  Array.from({ length: count }, (_, n) => row(n)).join(',');

describe('readLong', function () {
  this.timeout(60_000);
  before(() => StatementReader.load());

  /** What a verdict rests on. */
  const judged = (
    facts: Pick<LongFacts, 'class' | 'verdict' | 'relations' | 'functions' | 'names'>,
  ) => ({
    class: facts.class,
    verdict: facts.verdict,
    relations: [...facts.relations].sort(),
    functions: [...facts.functions].sort(),
    names: facts.names,
  });
  const reader = () =>
    new StatementReader({ classified: new Map([['t', new Set(CLASSIFIED)]]), cacheBytes: 0 });

  it('finds out what reading in the own thread does', () => {
    const attempts = [...destructiveAttempts('/nowhere', 1), ...leakAttempts(1)];
    const steps = attempts.flatMap((attempt) => attempt.steps);
    const sent = steps.flatMap((step) => ('sql' in step ? [step.sql] : []));
    const corpus = [...LEAK_CORPUS, ...sent.filter((sql) => typeof sql === 'string')];
    assert.ok(corpus.length > 80);
    for (const sql of corpus) {
      const [here, there] = [reader().read(sql), read(sql)];
      assert.deepEqual(judged(there), judged(here), sql);
      assert.equal(there.syntaxError, here.syntaxError, sql);
      assert.equal(there.fingerprint, here.fingerprint, sql);
    }
  });

  it('finds out the same of rows that it leaves out', () => {
    const kinds = [
      (n: number) => `(${n}, 'name ${n}', null)`,
      (n: number) => `(${n}, upper('x'), ${n}.5)`,
      (n: number) => `(-${n}, (select max(id) from other), 1)`,
      (n: number) => `(nextval('s'), lo_export(${n}, '/tmp/x'), 1)`,
    ];
    for (const kind of kinds) {
      const sql = `insert into t (id, name, ssn) values ${rows(4000, (n) => (n === 3999 ? kind(n) : `(${n}, 'name', null)`))}`;
      const there = read(sql);
      assert.deepEqual(judged(there), judged(reader().readLong(sql, [])));
      assert.ok(there.record.text.endsWith('rows alike */'));
    }
  });

  it('S9 keeps of values what a record may, and the HMAC of the whole text', () => {
    const sql = `insert into t (id, ssn) values ${rows(50_000, (n) => `(${n}, '536-22-${n}')`)}`;
    const { record } = read(sql);
    assert.match(
      record.text,
      /^insert into t \(id, ssn\) values \(\$1, \$2\),\(\$3, \$4\),.* \/\* and 4\d{4} rows alike \*\/$/,
    );
    assert.equal(record.literals.length, 2000);
    assert.deepEqual(record.literals[0], {
      position: 1,
      target: 't.id',
      content: { case: 'value', value: '0' },
    });
    assert.equal(record.literals[1]?.content?.case, 'hmac');
    assert.ok(!JSON.stringify(record).includes('536-22'));
    assert.deepEqual(Buffer.from(record.textHmac), hmacOf(sql));
  });

  it('keeps a bounded record of whatever it reads', () => {
    const names = read(`select ${rows(60_000, (n) => `a${n}`)}`);
    assert.ok(names.record.text.length < 300_000);
    assert.ok(names.record.text.endsWith(' /* and so on */'));
    assert.equal(names.record.textHmac.length, 32);
    const values = read(
      `insert into t (id) values ${rows(3000, (n) => `('${n}${'x'.repeat(4000)}')`)}`,
    );
    assert.ok(JSON.stringify(values.record).length < 3_000_000);
  });

  it('takes a text of 15 MiB in rows alike or in one value', () => {
    const inRows = read(
      `insert into t values ${rows(500_000, (n) => `(${1_000_000 + n}, 'abcdefghijkl')`)}`,
    );
    assert.equal(inRows.verdict.forbidden, undefined);
    const sql = `insert into t values ('${'x'.repeat(15_000_000)}')`;
    const inValue = read(sql);
    assert.equal(inValue.verdict.forbidden, undefined);
    assert.deepEqual(Buffer.from(inValue.record.textHmac), hmacOf(sql));
    assert.equal(inValue.essence, "insert into t values ('')");
  });

  it('refuses a text that says too much, as a whole or in names', () => {
    assert.equal(
      read(`select ${rows(400_000, () => '1')}`).verdict.forbidden,
      'statement-too-long',
    );
    assert.equal(
      read(`select * from ${rows(11_000, (n) => `t${n}`)}`).verdict.forbidden,
      'statement-too-long',
    );
  });

  it('refuses what does not parse, and tells why', () => {
    for (const sql of [
      `select ${'('.repeat(30_000)}1`,
      `insert into t values ${rows(9000, () => '(1)')},`,
      `select '${'x'.repeat(9000)}`,
    ]) {
      const facts = read(sql);
      assert.equal(facts.verdict.forbidden, 'unreadable-statement');
      assert.ok((facts.syntaxError ?? '').length > 10);
      assert.ok((facts.syntaxError ?? '').length <= 500);
    }
  });

  it('gives the text without rows alike where it is read for masks, unless that is long too', () => {
    assert.equal(
      read(`insert into t values ${rows(9000, (n) => `(${n})`)} returning a`).essence,
      'insert into t values (0) returning a',
    );
    assert.equal(
      read(`select * from t where id in (${rows(9000, (n) => String(n))})`).essence,
      undefined,
    );
  });
});
