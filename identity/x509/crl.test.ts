import 'reflect-metadata';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { X509Certificate, X509Crl } from '@peculiar/x509';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { temporaryDir } from '../../test/fixtures/running-server.ts';
import { localSigner } from '../signer.ts';
import { parseTrustDomain } from '../spiffe-id.ts';
import { createSelfSignedCa } from './ca.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import {
  CRL_REASON,
  type CrlInit,
  isCrlOf,
  MAXIMUM_CRL_BYTES,
  parseCrl,
  type RevokedSerial,
  signCrl,
} from './crl.ts';
import type { KeyType } from './key.ts';

const trustDomain = parseTrustDomain('example.org');
const NOW = new Date('2026-11-25T10:00:00Z');
const LATER = new Date('2026-11-25T11:00:00Z');

async function newCa(keyType: KeyType = 'ec-p256') {
  const ca = await createSelfSignedCa({
    ...{ trustDomain, keyType, now: NOW, notAfter: new Date('2046-11-25T10:00:00Z') },
  });
  const certificate = parseCertificate(ca.certificate);
  const sign = (more: Partial<CrlInit> = {}) =>
    signCrl(
      {
        ...{ issuer: certificate, number: 7n, thisUpdate: NOW, nextUpdate: LATER, revoked: [] },
        ...more,
      },
      localSigner(ca.privateKey),
    );
  return { ...ca, der: ca.certificate, certificate, sign };
}

function entry(serial: string, reason: RevokedSerial['reason'] = 0): RevokedSerial {
  return { serial, reason, revokedAt: NOW };
}

const THREE = [
  entry('7f00', CRL_REASON.certificateHold),
  entry('01', CRL_REASON.privilegeWithdrawn),
  entry('80ff00112233445566778899aabbccdd'),
];

describe('a certificate revocation list', () => {
  for (const keyType of ['ec-p256', 'ec-p384', 'ed25519', 'rsa-2048'] as KeyType[]) {
    it(`says what was put into it, signed with ${keyType}`, async () => {
      const ca = await newCa(keyType);
      const crl = parseCrl(await ca.sign({ revoked: THREE }));
      assert.equal(isCrlOf(crl, ca.certificate), true);
      assert.deepEqual([crl.number, crl.thisUpdate, crl.nextUpdate], [7n, NOW, LATER]);
      assert.deepEqual(
        [...crl.revoked.keys()],
        [...THREE.map(({ serial }) => serial)].sort(byValue),
      );
      for (const one of THREE) assert.deepEqual(crl.revoked.get(one.serial), one);
    });
  }

  it('is read the same by another reader', async () => {
    const ca = await newCa();
    const theirs = new X509Crl(await ca.sign({ revoked: THREE }));
    assert.equal(await theirs.verify({ publicKey: new X509Certificate(ca.der) }), true);
    assert.deepEqual([theirs.thisUpdate, theirs.nextUpdate], [NOW, LATER]);
    assert.deepEqual(
      theirs.entries.map(({ reason }) => reason ?? 0),
      [9, 6, 0],
    );
  });

  for (const revoked of [[], THREE]) {
    it(`is verified by openssl, with ${revoked.length} serials`, async function () {
      if (!hasProgram('openssl')) skipWithout(this, 'openssl');
      const ca = await newCa();
      using dir = temporaryDir();
      const file = join(dir.path, 'list.crl');
      writeFileSync(file, await ca.sign({ revoked }));
      writeFileSync(join(dir.path, 'ca.pem'), new X509Certificate(ca.der).toString('pem'));
      const args = ['crl', '-inform', 'der', '-in', file, '-CAfile', join(dir.path, 'ca.pem')];
      const told = execFileSync('openssl', [...args, '-noout', '-text', '-verify'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      assert.match(told, /Version 2/);
      assert.equal(told.match(/Serial Number/g)?.length ?? 0, revoked.length);
      if (revoked.length > 0) assert.match(told, /Certificate Hold[\s\S]*80FF00112233/);
    });
  }

  it('may be longer than 64 KiB, and not longer than its bound', async () => {
    const ca = await newCa();
    const many = (count: number) =>
      Array.from({ length: count }, (_, at) => entry((0x4000_0000 + at).toString(16), 9));
    const der = await ca.sign({ revoked: many(5000) });
    assert.ok(der.length > 65_536);
    assert.equal(parseCrl(der).revoked.size, 5000);
    await assert.rejects(ca.sign({ revoked: many(90_000) }), { message: /longer than/ });
    assert.throws(() => parseCrl(Buffer.alloc(MAXIMUM_CRL_BYTES + 1, 0x30)), malformed);
  });

  it('is not that of another authority, nor of one that may not sign it', async () => {
    const ca = await newCa();
    const crl = parseCrl(await ca.sign());
    const other = await newCa();
    assert.equal(isCrlOf(crl, other.certificate), false);
    // The same name and key id, another key.
    const { subject, subjectKeyId } = ca.certificate;
    const impostor: Certificate = { ...other.certificate, subject, subjectKeyId };
    assert.equal(isCrlOf(crl, impostor), false);
    assert.equal(isCrlOf(crl, { ...ca.certificate, keyUsage: new Set(['keyCertSign']) }), false);
  });

  it('is not believed after a bit has changed', async () => {
    const ca = await newCa();
    const der = Buffer.from(await ca.sign({ revoked: THREE }));
    const at = der.indexOf(Buffer.from('7f00', 'hex'));
    der[at + 1] = 1;
    assert.equal(isCrlOf(parseCrl(der), ca.certificate), false);
  });

  it('is refused when it is not exactly of this form', async () => {
    const ca = await newCa();
    const der = Buffer.from(await ca.sign({ revoked: [entry('11'), entry('22', 9)] }));
    const changed = (from: string, to: string) =>
      Buffer.from(der.toString('hex').replace(from, to), 'hex');
    const wrong = {
      'cut off': der.subarray(0, -1),
      'bytes after it': Buffer.concat([der, Buffer.of(0)]),
      'serials not ascending': changed('020111', '020133'),
      'a serial twice': changed('020111', '020122'),
      'a reason that is none': changed('0a0109', '0a0107'),
      'a reason that is no enumerated': changed('0a0109', '020109'),
      'another extension of an entry': changed('0603551d15', '0603551d18'),
      'version 1': changed('020101', '020100'),
      'another extension': changed('0603551d14', '0603551d1b'),
      'no dates in order': changed(
        Buffer.from('261125110000Z').toString('hex'),
        Buffer.from('261125090000Z').toString('hex'),
      ),
    };
    for (const [name, bytes] of Object.entries(wrong)) {
      assert.notDeepEqual(bytes, der, name);
      assert.throws(() => parseCrl(bytes), malformed, name);
    }
  });
});

const malformed = { code: 'INVALID_ARGUMENT', message: /^revocation list malformed/ };

function byValue(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : 1);
}
