import assert from 'node:assert/strict';
import { BodyReader, cstring, message } from '../wire/message-body.ts';
import { scrubFields } from './scrub-fields.ts';

function scrubbed(fields: Readonly<Record<string, string>>): Record<string, string> {
  const parts = Object.entries(fields).flatMap(([type, text]) => [
    Buffer.from(type),
    cstring(text),
  ]);
  const whole = message('E', ...parts, Buffer.alloc(1));
  const made = scrubFields('E', new BodyReader(whole, 5, whole.length));
  assert.equal(made.readInt32BE(1), made.length - 1);
  const shown: Record<string, string> = {};
  const body = new BodyReader(made, 5, made.length);
  for (let type = body.byte(); type !== 0; type = body.byte()) {
    shown[String.fromCharCode(type)] = body.cstring();
  }
  return shown;
}

const BASE = { S: 'ERROR', V: 'ERROR' };
const SECRET = '536-22-8726';

describe('scrubFields', () => {
  it('G22 withholds every field that can hold a value', () => {
    const fields = Object.fromEntries([...'DHWqnctdspFLR'].map((type) => [type, SECRET]));
    const shown = scrubbed({ ...BASE, C: '22P02', M: `invalid: ${SECRET}`, ...fields });
    assert.deepEqual(Object.keys(shown).sort(), ['C', 'M', 'S', 'V']);
    assert.ok(!JSON.stringify(shown).includes(SECRET));
  });

  it("keeps what tells of the client's own text", () => {
    const shown = scrubbed({ ...BASE, C: '42703', M: 'column "x" does not exist', P: '8' });
    assert.deepEqual(shown, { ...BASE, C: '42703', M: 'column "x" does not exist', P: '8' });
  });

  it('believes neither the code nor the message of a RAISE', () => {
    for (const source of [{ W: 'PL/pgSQL function f()' }, { R: 'exec_stmt_raise' }]) {
      const shown = scrubbed({ ...BASE, C: '42703', M: SECRET, ...source });
      assert.equal(shown.C, 'P0001');
      assert.ok(!JSON.stringify(shown).includes(SECRET));
    }
  });
});
