import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { decodePem, encodePem } from './pem.ts';

const invalid = { code: 'INVALID_ARGUMENT' };

describe('decodePem', () => {
  it('reads what encodePem writes, block after block', () => {
    const blocks = [1, 47, 48, 49, 1000].map((length) => randomBytes(length));
    const text = blocks.map((block) => encodePem('CERTIFICATE', block)).join('');
    assert.deepEqual(decodePem('CERTIFICATE', text), blocks);
    assert.ok(text.split('\n').every((line) => line.length <= 64));
  });

  it('passes over text between blocks and takes CRLF', () => {
    const text = `subject=x\n${encodePem('CERTIFICATE', Buffer.from('a'))}`.replaceAll(
      '\n',
      '\r\n',
    );
    assert.deepEqual(decodePem('CERTIFICATE', text), [Buffer.from('a')]);
  });

  const good = encodePem('CERTIFICATE', Buffer.alloc(100, 1));
  const wrong = {
    'no block': 'hello',
    'a block of another label': encodePem('PRIVATE KEY', Buffer.alloc(9)),
    'a block that does not end': good.slice(0, -30),
    'a block that does not end, before one that does': good.slice(0, -30) + good,
    'a body that is no base64': good.replace('AQEB', 'AQ=B'),
    'more than 1 MiB': good + ' '.repeat(1_048_576),
  };
  for (const [what, text] of Object.entries(wrong)) {
    it(`refuses ${what}`, () => assert.throws(() => decodePem('CERTIFICATE', text), invalid));
  }
});
