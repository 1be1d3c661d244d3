import assert from 'node:assert/strict';
import { loadModule, scanSync } from 'libpg-query';
import { plainText, tokenize, utf8 } from './statement-tokens.ts';

const TEXTS = [
  `select 'a''b', E'a\\'b\\\\', e'\\x41', b'01', X'fF', U&'d\\0061t' uescape '!', u&"d\\0061t", N'x'`,
  "select $$a'b$$, $t$ $$ $u$ $t$, $ä_1$x$ä_1$, a$b$c, $1, $23 from t$1",
  'select 1, 1.5, .5, 5., 1e10, 1.5E-7, 2e+3, 0x1F, 0o17, 0b01, 1_000 from t where a>-1 and b=- 1',
  'select "a""b", "Ünï", ünï, t."x", a.b.c, x::int, a[1:2], y.* from "t"',
  "select 1 -- it's 'quoted'\n, 2 /* a /* nested 'x' */ still $$ */ + 3 --end",
  "select a->>'b', a#>'{c}', a @> '{}', b<=c, d<>e, f!=g, h||i, j:=k, ~l, m!~*'n', 'o'!~'p'",
  "select 'a'\n  'b', E'c'\n'd', 'e' -- x\n 'f'",
  "select '\\', 'after a backslash', '/* no comment */', '-- nor this'",
  'select*from(values(1),(2))as"x"(a);select\t1\r\nfrom\ft;;',
  "insert into t values ('äöü', 'x', '\u{1f600}', 7)",
  'select a-1, a- -1, a--1\n, b/*x*/-/*y*/2',
  `select current_date at time zone 'utc' ? 'x' ?| array['y'] & 5 ^ 2 % 3 # 1`,
];

describe('tokenize', () => {
  before(() => loadModule());

  it('finds words, strings and numbers where the scanner of PostgreSQL finds them', () => {
    for (const sql of TEXTS) {
      const theirs = scanSync(sql).tokens.map(
        ({ start, end }) => [start, Buffer.from(sql).subarray(start, end).toString()] as const,
      );
      const isValue = (text: string) => /^[\w"'$.\u0080-\u{10ffff}]/u.test(text) && text !== '.';
      // It gives strings in several parts as one token, and ours are told apart by what is in them.
      const expected = theirs.filter(([, text]) => isValue(text) && !/^(--|\/\*)/.test(text));
      const starts = new Map(tokenize(sql).map(({ offset, raw }) => [offset, utf8(raw)]));
      for (const [start, text] of expected) {
        const ours = starts.get(start) ?? '';
        assert.ok(ours === text || /'\s*(--.*)?\n\s*'/.test(text), `${text} of ${sql}: ${ours}`);
      }
    }
  });

  it('takes every byte for a token, a blank or a comment', () => {
    for (const sql of TEXTS) {
      const bytes = Buffer.from(sql).toString('latin1');
      let end = 0;
      for (const { offset, raw } of tokenize(sql)) {
        assert.match(bytes.slice(end, offset), /^(\s|--[^\n]*|\/\*[\s\S]*\*\/)*$/);
        assert.equal(bytes.slice(offset, offset + raw.length), raw);
        end = offset + raw.length;
      }
    }
  });

  it('refuses what does not end and what is no SQL', () => {
    for (const sql of [
      "'a",
      "E'a\\'",
      '"a',
      '$$a',
      '$a$ $b$',
      '/* /* */',
      'a \\ b',
      '{',
      'x\u0001',
    ]) {
      assert.throws(() => tokenize(sql), Error, sql);
    }
  });

  it('needs time in proportion to the length of the text', () => {
    const started = performance.now();
    for (const piece of ["''", '1,', "E'\\\\'", '/**/', '$$ $$', '"x"', '(', "'a' "]) {
      tokenize(piece.repeat(60_000 / piece.length));
    }
    const took = performance.now() - started;
    assert.ok(took < 2000, `${took} ms`);
  });
});

describe('plainText', () => {
  const textOf = (sql: string) => plainText(sql, tokenize(sql), new Set()).text;

  it('keeps words and puts a parameter in place of each literal', () => {
    assert.equal(
      textOf('SELECT  a, \'b\' /* c */ FROM "T" WHERE x>-5.5 AND y = $1 -- d'),
      'SELECT a, $2 FROM "T" WHERE x>-$3 AND y = $1',
    );
  });

  it('takes quoted names that look like values for values', () => {
    assert.equal(textOf('select "536-22-8726", "a b", "ok_1", U&"x"'), 'select $1, $2, "ok_1", $3');
  });

  it('hides the words that it is told to hide', () => {
    const sql = 'select ä, secret';
    assert.equal(plainText(sql, tokenize(sql), new Set([11])).text, 'select ä, $1');
  });
});
