import assert from 'node:assert/strict';
import { FAULTS, Fault } from './fault.ts';

describe('FAULTS', () => {
  it('is sorted by code, each with an exit status and a sentence', () => {
    const codes = Object.keys(FAULTS);
    assert.deepEqual(codes, [...codes].sort());
    for (const { exit, says } of Object.values(FAULTS)) {
      assert.ok(exit === 1 || exit === 2);
      assert.ok(says.length > 10);
    }
  });
});

describe('Fault', () => {
  it('carries its code, message, cause and details', () => {
    const fault = new Fault('NOT_FOUND', 'no such entry', {
      cause: 'x',
      details: Buffer.from('d'),
    });
    assert.ok(fault instanceof Error);
    assert.deepEqual(
      [fault.name, fault.code, fault.message, fault.cause],
      ['Fault', 'NOT_FOUND', 'no such entry', 'x'],
    );
    assert.equal(String(fault.details), 'd');
  });

  it('leaves a fault as it is and hides anything else behind INTERNAL', () => {
    const fault = new Fault('USAGE', 'x');
    assert.equal(Fault.from(fault), fault);
    for (const reason of [new Error('secret'), 'secret', undefined]) {
      const internal = Fault.from(reason);
      assert.deepEqual([internal.code, internal.message], ['INTERNAL', 'internal error']);
      assert.equal(internal.cause, reason);
    }
  });
});
