import assert from 'node:assert/strict';
import { printRecord, printTable } from './table.ts';

describe('printTable', () => {
  const print = (json: boolean) => {
    const lines: string[] = [];
    const rows = [
      { id: 'a', long_name: 'x\u001b[2Jy\u2028\u061c' },
      { id: 'longer', long_name: '' },
    ];
    printTable({ out: (line) => lines.push(line) }, rows, ['id', 'long_name'], json);
    return lines;
  };

  it('aligns columns and shows control characters as question marks', () => {
    assert.deepEqual(print(false), ['ID      LONG NAME', 'a       x?[2Jy??', 'longer']);
  });

  it('prints every field as JSON', () => {
    assert.deepEqual(JSON.parse(print(true).join('\n')).map(Object.keys), [
      ['id', 'long_name'],
      ['id', 'long_name'],
    ]);
  });
});

describe('printRecord', () => {
  it('prints one field a line', () => {
    const lines: string[] = [];
    printRecord({ out: (line) => lines.push(line) }, { id: 'a', list: [1, 2] }, false);
    assert.deepEqual(lines, ['id:   a', 'list: [1,2]']);
  });
});
