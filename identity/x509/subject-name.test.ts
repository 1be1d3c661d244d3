import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { parseCsr, requestedSubject } from './csr.ts';
import { DerError, der, derOid, TAG } from './der.ts';
import { decodePem } from './pem.ts';
import { derName, readSubjectName } from './subject-name.ts';

const text = (value: string, tag: number = TAG.utf8String) => der(tag, Buffer.from(value));
const attribute = (oid: string, value: Uint8Array) =>
  der(TAG.set, der(TAG.sequence, derOid(oid), value));
const name = (...parts: Uint8Array[]) => der(TAG.sequence, ...parts);
const [COUNTRY, SERIAL, UNIT, COMMON, TITLE] = ['6', '5', '11', '3', '12'].map((n) => `2.5.4.${n}`);
assert.ok(COUNTRY && SERIAL && UNIT && COMMON && TITLE);

describe('readSubjectName', () => {
  it('keeps the parts in their order, and tells the common names apart', () => {
    const read = readSubjectName(
      name(
        attribute(COUNTRY, text('DE', TAG.printableString)),
        attribute(COMMON, text('db.example.org')),
        attribute(UNIT, text('Größe')),
      ),
    );
    assert.deepEqual(read.commonNames, ['db.example.org']);
    assert.deepEqual(
      derName(read.parts, 'x'),
      name(
        attribute(COUNTRY, text('DE', TAG.printableString)),
        attribute(UNIT, text('Größe')),
        attribute(COMMON, text('x')),
      ),
    );
  });

  it('reads what openssl asks for', async function () {
    if (!hasProgram('openssl')) skipWithout(this, 'openssl');
    const dir = mkdtempSync(join(tmpdir(), 'writ-'));
    try {
      const pem = execFileSync(
        'openssl',
        ['req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'].concat([
          ...['-keyout', join(dir, 'key'), '-subj', '/C=NL/O=Example/OU=Ops/CN=host'],
        ]),
        { stdio: ['ignore', 'pipe', 'ignore'] },
      ).toString();
      const [der] = decodePem('CERTIFICATE REQUEST', pem);
      assert.ok(der);
      const subject = requestedSubject(await parseCsr(der));
      assert.deepEqual([subject?.parts.length, subject?.commonNames], [3, ['host']]);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it('leaves out what RFC 5280 does not name', () => {
    const { parts, commonNames } = readSubjectName(name(attribute(TITLE, text('king'))));
    assert.deepEqual([parts, commonNames], [[], []]);
  });

  const wrong: [string, Uint8Array][] = [
    ['no sequence', text('a')],
    ['bytes after it', Buffer.concat([name(), Buffer.of(0)])],
    ['an empty value', name(attribute(UNIT, text('')))],
    ['a value of 65 characters', name(attribute(UNIT, text('x'.repeat(65))))],
    ['a control character', name(attribute(UNIT, text('a\nb')))],
    ['text that is no UTF-8', name(attribute(UNIT, der(TAG.utf8String, Buffer.of(0xff))))],
    ['text of two bytes a character', name(attribute(UNIT, text('ab', 0x1e)))],
    ['a country of three letters', name(attribute(COUNTRY, text('DEU')))],
    ['a serial number with an asterisk', name(attribute(SERIAL, text('1*')))],
    [
      'two attributes in one part',
      name(
        der(
          TAG.set,
          der(TAG.sequence, derOid(UNIT), text('a')),
          der(TAG.sequence, derOid(COMMON), text('b')),
        ),
      ),
    ],
    ['17 parts', name(...Array.from({ length: 17 }, () => attribute(UNIT, text('a'))))],
  ];
  for (const [what, bytes] of wrong) {
    it(`refuses ${what}`, () => assert.throws(() => readSubjectName(bytes), DerError));
  }
});
