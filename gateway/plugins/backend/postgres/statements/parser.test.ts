import assert from 'node:assert/strict';
import { fingerprintOf, loadParser, parseStatements, SyntaxFault } from './parser.ts';

/** Deeper than the stack, however little of it the parser needs for a level. */
const DEEP = `select 1${'+1'.repeat(60_000)}`;
/** Needs some of the parser's own stack. */
const JOINS = `select * from a0${Array.from({ length: 100 }, (_, n) => ` join a${n} using (id)`).join('')}`;

describe('parseStatements', function () {
  this.timeout(120_000);
  before(() => loadParser());

  it('gives the trees of all statements', () => {
    const types = parseStatements('select 1; delete from t').map((one) => Object.keys(one ?? {}));
    assert.deepEqual(types, [['SelectStmt'], ['DeleteStmt']]);
    assert.deepEqual(parseStatements('-- nothing'), []);
  });

  it('tells a mistake in the words of the server', () => {
    assert.throws(
      () => parseStatements('selct 1'),
      new SyntaxFault('syntax error at or near "selct"'),
    );
    assert.throws(() => fingerprintOf('selct 1'), SyntaxFault);
  });

  it('parses on, in the same turn, after a text that uses up the stack', () => {
    assert.throws(() => parseStatements(DEEP), RangeError);
    assert.equal(parseStatements(JOINS).length, 1);
  });

  it('parses on after any number of such texts', async () => {
    for (let count = 0; count < 32; count += 1) {
      assert.throws(() => parseStatements(DEEP), RangeError);
      await new Promise(setImmediate);
      assert.equal(parseStatements(JOINS).length, 1, `after ${count + 1}`);
    }
    assert.equal(fingerprintOf('select 1'), fingerprintOf('select 2'));
  });
});
