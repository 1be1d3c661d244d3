import assert from 'node:assert/strict';
import { Fault } from '../../../../runtime/fault.ts';
import { IdentReader, identLength, knowsEndOfWrite } from './ssh2-ident.ts';

describe('identLength', () => {
  const read = (head: string, isClients: boolean) => identLength(Buffer.from(head), isClients);

  it('waits for the end of the line', () => {
    for (const head of ['', 'S', 'SSH-', 'SSH-2.0-x', 'SSH-2.0-x\r']) {
      assert.equal(read(head, true), undefined);
      assert.equal(read(head, false), undefined);
    }
    assert.equal(read('SSH-2.0-x\r\nrest', true), 11);
    assert.equal(read('SSH-2.0-x\nrest', false), 10);
  });

  it("takes a server's greeting before it, but no client's", () => {
    assert.equal(read('hello\r\nSSH-2.0-x\r\n', false), 18);
    assert.equal(read('hello\r\n', false), undefined);
    for (const head of ['h', 'SS-', '\r\nSSH-2.0-x\r\n']) {
      assert.throws(() => read(head, true), Fault);
    }
  });

  it('bounds both', () => {
    assert.equal(read(`SSH-${'x'.repeat(250)}\n`, true), 255);
    assert.throws(() => read(`SSH-${'x'.repeat(251)}\n`, true), Fault);
    assert.throws(() => read(`SSH-${'x'.repeat(252)}`, true), Fault);
    assert.equal(read('x'.repeat(8192), false), undefined);
    assert.throws(() => read('x'.repeat(8193), false), Fault);
    assert.throws(() => read(`${'x\n'.repeat(5000)}SSH-2.0-x\n`, false), Fault);
  });
});

describe('IdentReader', () => {
  function readByByte(head: string, isClients = false): IdentReader {
    const reader = new IdentReader(isClients);
    const taken = [...Buffer.from(head)].map((byte) => reader.take(Buffer.of(byte)));
    assert.deepEqual(taken.at(-1), Buffer.from(head));
    assert.ok(taken.slice(0, -1).every((bytes) => bytes === undefined));
    return reader;
  }

  it('hands out nothing before the line is whole, then all that came, and then what comes', () => {
    const reader = readByByte('SSH-2.0-x\r\n', true);
    assert.equal(reader.isWhole, true);
    assert.deepEqual(reader.take(Buffer.from('more')), Buffer.from('more'));
  });

  it('tells what the peer calls itself', () => {
    for (const [head, software] of [
      ['SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10\r\n', 'OpenSSH_9.2p1 Debian-2+deb12u10'],
      ['SSH-1.99-x\n', 'x'],
      ['hello\r\nSSH-2.0-OpenSSH_1\r\nSSH-2.0-y\r\n', 'OpenSSH_1'],
      ['SSH-2.0-no\nSSH', 'no'],
      ['SSH-2.0\r\n', ''],
      ['SSH-\n', ''],
    ] as const) {
      const reader = new IdentReader(false);
      assert.equal(reader.software, '');
      reader.take(Buffer.from(head));
      assert.equal(reader.software, software, head);
    }
    assert.equal(readByByte('SSH-1\nSSH-2.0-OpenSSH\n'.slice(6)).software, 'OpenSSH');
  });

  it('stays without a name where none can follow', () => {
    const reader = new IdentReader(true);
    assert.throws(() => reader.take(Buffer.from('GET / HTTP/1.1\r\n')), Fault);
    assert.deepEqual([reader.isWhole, reader.software], [false, '']);
  });
});

describe('knowsEndOfWrite', () => {
  it('goes by the beginning of the name', () => {
    assert.equal(knowsEndOfWrite('OpenSSH_9.2p1'), true);
    for (const name of ['', 'dropbear_2022.83', 'x OpenSSH_9.2', 'openssh_9.2']) {
      assert.equal(knowsEndOfWrite(name), false, name);
    }
  });
});
