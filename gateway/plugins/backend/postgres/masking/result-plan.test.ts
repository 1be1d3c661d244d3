import assert from 'node:assert/strict';
import { Mask } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { BodyReader, cstring, int16, int32, message } from '../wire/message-body.ts';
import { TYPE } from './mask-value.ts';
import { maskRow, planResult, type RelationRules, type ResultRules } from './result-plan.ts';
import type { StatementReach } from './statement-reach.ts';

const QUIET: StatementReach = { touches: false, outputs: undefined, refusal: undefined };
const TOUCHES: StatementReach = { ...QUIET, touches: true };
const CUSTOMERS: RelationRules = {
  name: 'public.customers',
  columns: new Map([
    [2, { column: 'public.customers.ssn', mask: Mask.LAST4, rangeSize: 0n }],
    [3, { column: 'public.customers.name', mask: Mask.NONE, rangeSize: 0n }],
  ]),
  othersHidden: false,
  lastKnown: 5,
};
const VIEW: RelationRules = {
  ...CUSTOMERS,
  name: 'public.v',
  columns: new Map(),
  othersHidden: true,
};

let outdated = 0;
const RULES: ResultRules = {
  hashKey: () => new Uint8Array(32),
  relation: (oid) => (oid === 1 ? CUSTOMERS : oid === 2 ? VIEW : oid === 3 ? 'open' : undefined),
  outdated: () => {
    outdated += 1;
  },
};

/** @param columns table's number and column's number of each */
function plan(columns: readonly (readonly [number, number])[], reach = QUIET) {
  const fields = columns.flatMap(([table, column]) => [
    ...[
      cstring('c'),
      int32(table),
      int16(column),
      int32(TYPE.text),
      int16(-1),
      int32(-1),
      int16(0),
    ],
  ]);
  const whole = message('T', int16(columns.length), ...fields);
  return planResult(new BodyReader(whole, 5, whole.length), reach, RULES);
}

function row(...cells: (string | null)[]): Buffer {
  const parts = cells.flatMap((cell) =>
    cell === null ? [int32(-1)] : [int32(Buffer.byteLength(cell)), Buffer.from(cell)],
  );
  return message('D', int16(cells.length), ...parts);
}

const masks = (columns: readonly (readonly [number, number])[], reach = QUIET) =>
  Array.from(plan(columns, reach).columns, (column) => column?.mask);

describe('planResult', () => {
  it('goes by the numbers of table and column', () => {
    const { columns, maskedColumns } = plan([
      [1, 1],
      [1, 2],
      [3, 2],
      [1, 3],
    ]);
    assert.deepEqual(
      columns.map((one) => one?.mask),
      [undefined, Mask.LAST4, undefined, undefined],
    );
    assert.deepEqual(maskedColumns, ['public.customers.ssn']);
  });

  it('masks nothing where nothing is classified', () => {
    assert.equal(
      plan([
        [3, 1],
        [0, 0],
      ]).masks,
      false,
    );
  });

  it('masks a whole row, a view, and what is not known', () => {
    assert.deepEqual(
      masks([
        [1, 0],
        [2, 1],
        [99, 1],
        [1, 6],
      ]),
      Array(4).fill(Mask.FULL),
    );
    assert.equal(outdated, 2);
  });

  it('masks expressions of a statement that touches a classified table, but those that tell nothing', () => {
    assert.deepEqual(masks([[0, 0]], TOUCHES), [Mask.FULL]);
    const reach = { ...TOUCHES, outputs: [true, false] };
    assert.deepEqual(
      masks(
        [
          [0, 0],
          [0, 0],
        ],
        reach,
      ),
      [undefined, Mask.FULL],
    );
    // A `*` that the tree does not count.
    assert.deepEqual(
      masks(
        [
          [0, 0],
          [0, 0],
          [0, 0],
        ],
        reach,
      ),
      Array(3).fill(Mask.FULL),
    );
  });
});

describe('maskRow', () => {
  it('rebuilds a row whose cells change their length', () => {
    const { columns, ...rest } = plan([
      [3, 1],
      [99, 1],
      [3, 1],
      [99, 1],
    ]);
    const data = Buffer.concat([Buffer.from('before'), row('one', 'secret', null, null)]);
    const masked = maskRow({ columns, ...rest }, data, 6, data.length);
    assert.deepEqual(masked, row('one', '***', null, null));
  });

  it('changes a cell of the same length in place', () => {
    const data = row('536-22-8726', 'x');
    assert.equal(
      maskRow(
        plan([
          [1, 2],
          [3, 1],
        ]),
        data,
        0,
        data.length,
      ),
      undefined,
    );
    assert.deepEqual(data, row('*******8726', 'x'));
  });

  it('G24 keeps 100,000 random rows in step', () => {
    const how = plan([
      [3, 1],
      [1, 2],
      [99, 1],
      [3, 1],
    ]);
    let seed = 7;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
      return seed % below;
    };
    const cell = () => (random(5) === 0 ? null : 'é1x'.repeat(random(12)));
    for (let left = 100_000; left > 0; left -= 1) {
      const cells = [cell(), cell(), cell(), cell()];
      const data = row(...cells);
      const masked = maskRow(how, data, 0, data.length) ?? data;
      const body = new BodyReader(masked, 7, masked.length);
      const seen = cells.map(() => {
        const length = body.int32();
        return length === -1 ? null : body.bytes(length).toString('utf8');
      });
      body.finish();
      assert.equal(masked.readInt32BE(1), masked.length - 1);
      assert.deepEqual([seen[0], seen[3]], [cells[0], cells[3]]);
      assert.equal(seen[2], cells[2] === null ? null : '***');
    }
  });

  it('refuses a row that is not as described', () => {
    const how = plan([
      [1, 2],
      [3, 1],
    ]);
    const whole = row('a', 'b');
    for (const data of [
      row('a'),
      row('a', 'b', 'c'),
      whole.subarray(0, whole.length - 1),
      Buffer.concat([whole, Buffer.from('x')]),
      Buffer.from('D\0\0\0\x04'),
    ]) {
      const fault = { code: 'PROTOCOL_VIOLATION' };
      assert.throws(() => maskRow(how, data, 0, data.length), fault);
    }
  });
});
