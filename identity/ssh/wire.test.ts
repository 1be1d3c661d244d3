import assert from 'node:assert/strict';
import { SshReader, SshWriter } from './wire.ts';

const bytes = (hex: string) => Buffer.from(hex.replaceAll(' ', ''), 'hex');
const reader = (hex: string) => new SshReader(bytes(hex), 'thing');

function refuses(read: () => unknown, message: RegExp): void {
  assert.throws(read, { code: 'SSH_INVALID', message });
}

describe('SshReader', () => {
  it('reads what SshWriter writes, to the end', () => {
    const written = new SshWriter()
      .u8(255)
      .u32(0xffff_fffe)
      .u64(0xffff_ffff_ffff_fffdn)
      .boolean(true)
      .boolean(false)
      .string(Buffer.of(0, 1, 2))
      .string('grün')
      .string('publickey')
      .mpint(Buffer.of(0, 0, 0x80))
      .raw(Buffer.of(9))
      .finish();
    const read = new SshReader(written);
    assert.equal(read.u8(), 255);
    assert.equal(read.u32(), 0xffff_fffe);
    assert.equal(read.u64(), 0xffff_ffff_ffff_fffdn);
    assert.equal(read.boolean(), true);
    assert.equal(read.boolean(), false);
    assert.deepEqual(read.string(), Buffer.of(0, 1, 2));
    assert.equal(read.text(), 'grün');
    assert.equal(read.name(), 'publickey');
    assert.deepEqual(read.mpint(), Buffer.of(0x80));
    assert.equal(read.rest, 1);
    assert.equal(read.offset, written.length - 1);
    refuses(() => read.end(), /bytes after the last value/);
    assert.equal(read.u8(), 9);
    read.end();
  });

  it('says what it was reading', () => refuses(() => reader('').u8(), /^thing: ends too early$/));

  it('reads from a view into larger memory', () => {
    const inside = bytes('ffff 00000001 41 ffff').subarray(2, 7);
    const read = new SshReader(inside);
    assert.equal(read.text(), 'A');
    read.end();
  });

  const short: Record<string, (read: SshReader) => unknown> = {
    u8: (read) => [read.u32(), read.u8()],
    u32: (read) => [read.u8(), read.u32()],
    u64: (read) => read.u64(),
    string: (read) => read.string(),
  };
  for (const [what, read] of Object.entries(short)) {
    it(`refuses a ${what} beyond the end`, () => {
      refuses(() => read(reader('00000001')), /ends too early/);
    });
  }

  it('refuses a length of 4 GiB without making room for it', () => {
    refuses(() => reader('ffffffff 00').string(), /ends too early/);
  });

  it('refuses a string longer than asked for, and takes one just as long', () => {
    refuses(() => reader('00000003 414243').string(2), /longer than 2 bytes/);
    assert.equal(reader('00000003 414243').text(3), 'ABC');
  });

  it('refuses a boolean other than 0 and 1', () => {
    refuses(() => reader('02').boolean(), /neither 0 nor 1/);
    refuses(() => reader('ff').boolean(), /neither 0 nor 1/);
  });

  it('keeps a byte order mark, so that two texts do not read as one', () => {
    assert.equal(reader('00000004 efbbbf41').text(), '\ufeffA');
  });

  const noUtf8 = {
    'a lone byte': '00000001 ff',
    'half a character': '00000002 e282',
    'an overlong form': '00000002 c080',
    'half a surrogate pair': '00000003 eda080',
    'a code point too high': '00000004 f4908080',
  };
  for (const [what, hex] of Object.entries(noUtf8)) {
    it(`refuses ${what} as text`, () => refuses(() => reader(hex).text(), /no UTF-8/));
  }

  const noName = {
    nothing: '00000000',
    'a space': '00000001 20',
    'a NUL': '00000002 4100',
    'what is not ASCII': '00000002 c3bc',
    '65 characters': `00000041 ${'41'.repeat(65)}`,
  };
  for (const [what, hex] of Object.entries(noName)) {
    it(`refuses ${what} as a name`, () => {
      refuses(() => reader(hex).name(), /malformed name|longer than 64/);
    });
  }

  it('reads numbers without their sign byte', () => {
    assert.deepEqual(reader('00000000').mpint(), Buffer.alloc(0));
    assert.deepEqual(reader('00000001 7f').mpint(), bytes('7f'));
    assert.deepEqual(reader('00000002 0080').mpint(), bytes('80'));
  });

  for (const hex of ['00000001 00', '00000002 0001', '00000002 007f', '00000003 000080']) {
    it(`refuses ${hex}: a number not minimal`, () => {
      refuses(() => reader(hex).mpint(), /not minimal/);
    });
  }

  it('refuses a negative number', () => {
    refuses(() => reader('00000001 80').mpint(), /negative/);
  });

  it('bounds a number by its own bytes, not the sign', () => {
    assert.deepEqual(reader('00000003 008000').mpint(2), bytes('8000'));
    refuses(() => reader('00000003 010000').mpint(2), /longer than 2 bytes/);
    refuses(() => reader('00000004 00800000').mpint(2), /longer than 3 bytes/);
  });
});

describe('SshWriter', () => {
  it('writes numbers as RFC 4251 5 shows them', () => {
    const mpint = (hex: string) => new SshWriter().mpint(bytes(hex)).finish().toString('hex');
    assert.equal(mpint(''), '00000000');
    assert.equal(mpint('00'), '00000000');
    assert.equal(mpint('09a378f9b2e332a7'), '0000000809a378f9b2e332a7');
    assert.equal(mpint('80'), '000000020080');
    assert.equal(mpint('000080'), '000000020080');
  });

  it('refuses numbers that do not fit', () => {
    assert.throws(() => new SshWriter().u8(256), RangeError);
    assert.throws(() => new SshWriter().u32(-1), RangeError);
    assert.throws(() => new SshWriter().u64(1n << 64n), RangeError);
  });
});
