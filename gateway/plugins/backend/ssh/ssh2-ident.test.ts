import assert from 'node:assert/strict';
import { Fault } from '../../../../runtime/fault.ts';
import { identLength } from './ssh2-ident.ts';

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
