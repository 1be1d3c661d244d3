import assert from 'node:assert/strict';
import { Mask } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { type ColumnMask, maskValue, TYPE } from './mask-value.ts';

function column(mask: Mask, typeOid: number, more: Partial<ColumnMask> = {}): ColumnMask {
  const hashKey = new Uint8Array(32);
  return { mask, typeOid, rangeSize: 100n, typmod: -1, binary: false, hashKey, ...more };
}

function shown(how: ColumnMask, value: string): string | undefined {
  return maskValue(how, Buffer.from(value))?.toString('utf8');
}

function int64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(value);
  return bytes;
}

describe('maskValue', () => {
  it('shows text as the views do', () => {
    assert.equal(shown(column(Mask.FULL, TYPE.text), 'secret'), '***');
    assert.equal(shown(column(Mask.LAST4, TYPE.text), '536-22-8726'), '*******8726');
    assert.equal(shown(column(Mask.LAST4, TYPE.text), 'short'), '*****');
    assert.equal(shown(column(Mask.LAST4, TYPE.text), 'Größe-8726'), '******8726');
    assert.equal(shown(column(Mask.EMAIL, TYPE.text), 'ada@example.com'), 'a***@example.com');
    assert.equal(shown(column(Mask.EMAIL, TYPE.text), '@x'), '***');
    assert.equal(shown(column(Mask.EMAIL, TYPE.text), 'none'), '***');
  });

  it('cuts to the length of the type', () => {
    assert.equal(shown(column(Mask.FULL, TYPE.varchar, { typmod: 6 }), 'ab'), '**');
    assert.equal(shown(column(Mask.HASH, TYPE.varchar, { typmod: 16 }), 'ab')?.length, 12);
    assert.equal(shown(column(Mask.HASH, TYPE.varchar, { typmod: 13 }), 'ab'), undefined);
  });

  it('gives NULL where the mask has no form for the type', () => {
    for (const typeOid of [TYPE.int4, TYPE.uuid, TYPE.date, 3802, 17, 99_999]) {
      for (const mask of [Mask.FULL, Mask.LAST4, Mask.EMAIL, Mask.NULL]) {
        assert.equal(maskValue(column(mask, typeOid), Buffer.from('1')), null);
      }
    }
    assert.equal(shown(column(Mask.NULL, TYPE.text), 'x'), undefined);
    assert.equal(shown(column(Mask.UNSPECIFIED, TYPE.text), 'x'), undefined);
  });

  it('cuts numbers towards zero, in both formats', () => {
    assert.equal(shown(column(Mask.RANGE, TYPE.int4), '-1234'), '-1200');
    assert.equal(
      shown(column(Mask.RANGE, TYPE.numeric), '99999999999999999999.5'),
      '99999999999999999900',
    );
    const scaled = (((10 << 16) | 2) >>> 0) + 4;
    assert.equal(shown(column(Mask.RANGE, TYPE.numeric, { typmod: scaled }), '129.99'), '100.00');
    assert.equal(shown(column(Mask.RANGE, TYPE.numeric), 'NaN'), undefined);
    assert.equal(shown(column(Mask.RANGE, TYPE.float8), '1.5e3'), '1500');
    assert.equal(shown(column(Mask.RANGE, TYPE.float8), 'Infinity'), undefined);
    assert.equal(shown(column(Mask.RANGE, TYPE.text), '1234'), undefined);
    const binary = column(Mask.RANGE, TYPE.int8, { binary: true });
    assert.deepEqual(maskValue(binary, int64(-250n)), int64(-200n));
    assert.equal(maskValue(binary, Buffer.alloc(3)), null);
    assert.equal(
      maskValue(column(Mask.RANGE, TYPE.numeric, { binary: true }), Buffer.alloc(8)),
      null,
    );
  });

  it('cuts dates and timestamps to their year, in UTC where they have a zone', () => {
    assert.equal(shown(column(Mask.YEAR, TYPE.date), '1815-12-10'), '1815-01-01');
    assert.equal(shown(column(Mask.YEAR, TYPE.date), '10.12.1815'), undefined);
    assert.equal(shown(column(Mask.YEAR, TYPE.date), '0044-03-15 BC'), undefined);
    assert.equal(
      shown(column(Mask.YEAR, TYPE.timestamp), '2024-05-06 07:08:09.5'),
      '2024-01-01 00:00:00',
    );
    const zoned = column(Mask.YEAR, TYPE.timestamptz);
    assert.equal(shown(zoned, '2025-01-01 00:30:00+01'), '2024-01-01 00:00:00+00');
    assert.equal(shown(zoned, '2024-12-31 23:30:00-05:30'), '2025-01-01 00:00:00+00');
    assert.equal(shown(zoned, 'infinity'), undefined);
    const days = Buffer.alloc(4);
    days.writeInt32BE(400);
    assert.equal(
      maskValue(column(Mask.YEAR, TYPE.date, { binary: true }), days)?.readInt32BE(),
      366,
    );
    const stamp = column(Mask.YEAR, TYPE.timestamptz, { binary: true });
    assert.deepEqual(maskValue(stamp, int64(-1n)), int64(-365n * 86_400_000_000n));
    assert.equal(maskValue(stamp, int64(0x7fff_ffff_ffff_ffffn)), null);
  });

  it('hashes equal values alike, in both formats, and under its key', () => {
    const text = column(Mask.HASH, TYPE.int8);
    const binary = column(Mask.HASH, TYPE.int8, { binary: true });
    const hashed = shown(text, '42');
    assert.match(hashed ?? '', /^\d+$/);
    assert.equal(String(maskValue(binary, int64(42n))?.readBigInt64BE()), hashed);
    assert.notEqual(shown({ ...text, hashKey: new Uint8Array(32).fill(1) }, '42'), hashed);
    assert.match(
      shown(column(Mask.HASH, TYPE.uuid), 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11') ?? '',
      /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
    );
  });
});
