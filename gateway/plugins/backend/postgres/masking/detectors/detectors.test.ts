import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import {
  DetectorAction,
  DetectorPatternSchema,
  DetectorSchema,
} from '../../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { BUILT_IN } from './built-in.ts';
import { Detectors } from './detectors.ts';

const ALL = [...BUILT_IN.keys()];
const JWT = 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl';

function detectors(
  kinds: readonly string[],
  { action = DetectorAction.MASK, patterns = [] as string[], found = [] as string[] } = {},
): Detectors {
  const made = Detectors.of(
    {
      detectors: kinds.map((kind) => create(DetectorSchema, { kind, action })),
      patterns: patterns.map((pattern) =>
        create(DetectorPatternSchema, { name: 'own', pattern, action }),
      ),
    },
    (name) => found.push(name),
  );
  assert.ok(made);
  return made;
}

function shown(text: string, kinds: readonly string[] = ALL, more = {}): string {
  const data = Buffer.from(text);
  detectors(kinds, more).scan(data, 0, data.length);
  return data.toString();
}

describe('Detectors', () => {
  it('find cards by their check digit', () => {
    assert.equal(shown('a 4111111111111111 b'), `a ${'*'.repeat(16)} b`);
    assert.equal(shown('4111-1111-1111-1111'), '*'.repeat(19));
    assert.equal(shown('4111 1111 1111 1111.'), `${'*'.repeat(19)}.`);
    for (const no of ['4111111111111112', '94111111111111111', '41111111111111110000', '1234']) {
      assert.equal(shown(no), no);
    }
  });

  it('find national numbers, addresses, tokens and keys', () => {
    for (const secret of [
      '536-22-8726',
      'ada.lovelace+x@mail.example.com',
      JWT,
      'AKIAIOSFODNN7EXAMPLE',
      `ghp_${'a1B2'.repeat(9)}`,
      'sk_live_51H8xkq2eZvKYlo2C',
      '-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----',
    ]) {
      assert.equal(shown(`x: ${secret} `), `x: ${'*'.repeat(secret.length)} `);
    }
    assert.equal(shown('-----BEGIN PRIVATE KEY-----\nMIIB'), '*'.repeat(32));
  });

  it('let pass what only looks like it', () => {
    for (const text of [
      'a@b',
      '@x.org',
      '1536-22-8726',
      '536-22-87261',
      'eyJabc',
      'AKIAshort',
      '',
    ]) {
      assert.equal(shown(text), text);
    }
  });

  it('tell of a finding and show it where the action is alert', () => {
    const found: string[] = [];
    assert.equal(
      shown('536-22-8726', ['ssn'], { action: DetectorAction.ALERT, found }),
      '536-22-8726',
    );
    assert.deepEqual(found, ['ssn']);
  });

  it('find an own pattern', () => {
    assert.equal(shown('EMP-123456!', [], { patterns: ['EMP-[0-9]{6}'] }), '**********!');
  });

  it('look at each cell alone', () => {
    const cells = ['41111111', '11111111'].map((text) => Buffer.from(text));
    const parts = cells.flatMap((cell) => [Buffer.from([0, 0, 0, cell.length]), cell]);
    const row = Buffer.concat([Buffer.from('D\0\0\0\x1e\0\x02'), ...parts]);
    const before = Buffer.from(row);
    assert.equal(detectors(ALL).scanRow(row, 0, row.length), true);
    assert.deepEqual(row, before);
    assert.equal(detectors(ALL).scanRow(row, 0, row.length - 1), false);
  });

  it('do not run past the end of a cell', () => {
    const data = Buffer.from('4111111111111111');
    detectors(ALL).scan(data, 0, 15);
    assert.equal(data.toString(), '4111111111111111');
  });

  it('take a time that grows with the length alone', () => {
    const found: string[] = [];
    for (const part of ['x', '@', '1', '1-', 'eyJ', '-----BEGIN ', 'a@a.']) {
      const data = Buffer.from(part.repeat(Math.ceil(1_000_000 / part.length)));
      detectors(ALL, { found }).scan(data, 0, data.length);
    }
  }).timeout(20_000);

  it('refuse a kind that is not known', () => {
    assert.throws(() => detectors(['face']), /not known/);
  });
});
