import assert from 'node:assert/strict';
import {
  DerError,
  DerReader,
  der,
  derInteger,
  derOid,
  derTime,
  readNamedBits,
  readOctetBits,
  readOid,
  readSmallInteger,
  readTime,
  readTrue,
  readUnsigned,
  TAG,
} from './der.ts';

const bytes = (hex: string) => Buffer.from(hex.replaceAll(' ', ''), 'hex');
const one = (hex: string) => new DerReader(bytes(hex)).any();

describe('DerReader', () => {
  it('reads what der writes, at each form of length', () => {
    for (const length of [0, 1, 127, 128, 255, 256, 65_000]) {
      const content = Buffer.alloc(length, 7);
      const value = DerReader.only(der(TAG.octetString, content), TAG.octetString);
      assert.deepEqual(value.content, content);
    }
  });

  const wrong = {
    nothing: '',
    'a tag alone': '30',
    'a length beyond the end': '3002 05',
    'an indefinite length': '3080 0500 0000',
    'a length of three bytes': '0483 000001 00',
    'a long form where the short one fits': '0481 01 00',
    'two length bytes where one fits': `0482 0080 ${'00'.repeat(128)}`,
    'a length cut short': '0482 01',
    'a tag number over 30': '1f81 01 00',
  };
  for (const [what, hex] of Object.entries(wrong)) {
    it(`refuses ${what}`, () => assert.throws(() => one(hex), DerError));
  }

  it('refuses bytes after the value', () => {
    assert.throws(() => DerReader.only(bytes('0500 00'), TAG.null), DerError);
  });

  it('refuses another tag than the one asked for', () => {
    assert.throws(() => DerReader.only(bytes('0500'), TAG.sequence), DerError);
  });

  it('refuses more than 64 KiB before it looks at them', () => {
    assert.throws(() => new DerReader(Buffer.alloc(65_537)), DerError);
    assert.throws(() => der(TAG.octetString, Buffer.alloc(65_536)), DerError);
  });
});

describe('readUnsigned', () => {
  it('reads zero, and takes the sign byte off', () => {
    assert.deepEqual(readUnsigned(one('020100')), bytes('00'));
    assert.deepEqual(readUnsigned(one('02020080')), bytes('80'));
  });

  for (const hex of ['0200', '020180', '02020001', '0203000001']) {
    it(`refuses ${hex}: empty, negative or not minimal`, () => {
      assert.throws(() => readUnsigned(one(hex)), DerError);
    });
  }

  it('is undone by derInteger', () => {
    for (const hex of ['00', '7f', '80', 'ff00', '0000ff']) {
      const read = readUnsigned(DerReader.only(derInteger(bytes(hex)), TAG.integer));
      assert.equal(BigInt(`0x${read.toString('hex')}`), BigInt(`0x${hex}`));
    }
    assert.deepEqual(derInteger(Buffer.alloc(0)), bytes('020100'));
  });
});

describe('readSmallInteger', () => {
  it('refuses more than 31 bits', () => {
    assert.equal(readSmallInteger(one('02047fffffff')), 0x7fff_ffff);
    assert.throws(() => readSmallInteger(one('02050080000000')), DerError);
    assert.throws(() => readSmallInteger(one(`0209 01${'00'.repeat(8)}`)), DerError);
  });
});

describe('readTrue', () => {
  it('takes ff alone', () => {
    assert.equal(readTrue(one('0101ff')), true);
    for (const hex of ['010100', '010101', '0100', '0102ffff']) {
      assert.throws(() => readTrue(one(hex)), DerError);
    }
  });
});

describe('readOid', () => {
  for (const oid of ['2.5.29.17', '1.2.840.113549.1.9.14', '2.999.3', '0.9', '1.39']) {
    it(`reads and writes ${oid}`, () => {
      assert.equal(readOid(DerReader.only(derOid(oid), TAG.oid)), oid);
    });
  }

  for (const hex of [
    '0600',
    '060180',
    '0602 8001',
    `0621 ${'01'.repeat(33)}`,
    `060a ${'ff'.repeat(9)}7f`,
  ]) {
    it(`refuses ${hex}`, () => assert.throws(() => readOid(one(hex)), DerError));
  }
});

describe('readOctetBits', () => {
  it('refuses bits that are not whole octets', () => {
    assert.deepEqual(readOctetBits(one('0302 00ff')), bytes('ff'));
    for (const hex of ['0300', '0302 01fe']) assert.throws(() => readOctetBits(one(hex)), DerError);
  });
});

describe('readNamedBits', () => {
  it('reads the bits by their number', () => {
    assert.deepEqual([...readNamedBits(one('0302 03a8'))], [0, 2, 4]);
    assert.deepEqual([...readNamedBits(one('0303 07 0080'))], [8]);
  });

  for (const hex of [
    '0300',
    '0301 00',
    '0302 08 80',
    '0302 00 fe',
    '0302 02 81',
    '0303 00 8000',
    '0306 00 0000000001',
  ]) {
    it(`refuses ${hex}: empty, trailing zeros, stray or too many bits`, () => {
      assert.throws(() => readNamedBits(one(hex)), DerError);
    });
  }
});

describe('readTime', () => {
  const read = (tag: number, text: string) =>
    readTime(new DerReader(der(tag, Buffer.from(text))).any());

  it('reads both forms and writes the one that RFC 5280 demands', () => {
    assert.equal(derTime(new Date('2049-12-31T23:59:59Z'))[0], TAG.utcTime);
    assert.equal(read(TAG.utcTime, '510203040506Z').toISOString(), '1951-02-03T04:05:06.000Z');
    assert.equal(read(TAG.utcTime, '491231235959Z').toISOString(), '2049-12-31T23:59:59.000Z');
    const far = new Date('2050-01-01T00:00:00Z');
    assert.equal(derTime(far)[0], TAG.generalizedTime);
    assert.deepEqual(readTime(new DerReader(derTime(far)).any()), far);
  });

  it('reads years that UTCTime cannot say, as SPIRE accepts in authorities', () => {
    const first = read(TAG.generalizedTime, '00010101000000Z');
    assert.equal(first.toISOString(), '0001-01-01T00:00:00.000Z');
    assert.deepEqual(readTime(new DerReader(derTime(first)).any()), first);
    assert.equal(read(TAG.generalizedTime, '19491231235959Z').getUTCFullYear(), 1949);
    assert.equal(read(TAG.generalizedTime, '99991231235959Z').getUTCFullYear(), 9999);
  });

  it('cuts off parts of a second', () => {
    const time = readTime(new DerReader(derTime(new Date('2026-11-25T00:50:48.999Z'))).any());
    assert.equal(time.toISOString(), '2026-11-25T00:50:48.000Z');
  });

  const wrong: [number, string][] = [
    [TAG.utcTime, '2611250050Z'],
    [TAG.utcTime, '261125005048'],
    [TAG.utcTime, '261125005048+0100'],
    [TAG.utcTime, '260230005048Z'],
    [TAG.utcTime, '261125245048Z'],
    [TAG.utcTime, '261125005060Z'],
    [TAG.generalizedTime, '20491231235959Z'],
    [TAG.generalizedTime, '19500101000000Z'],
    [TAG.generalizedTime, '20500101000000.5Z'],
    [TAG.utf8String, '261125005048Z'],
  ];
  for (const [tag, text] of wrong) {
    it(`refuses ${text} under tag ${tag}`, () => assert.throws(() => read(tag, text), DerError));
  }
});
