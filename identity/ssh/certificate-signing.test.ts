import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import {
  handMadeSshCertificate,
  newSshKey,
} from '../../test/fixtures/hand-made-ssh-certificate.ts';
import { parseSshCertificate, type SshCertificateInit, signSshCertificate } from './certificate.ts';
import { encodePublicKey } from './public-key.ts';

const ED25519 = newSshKey();
const WEB = 'spiffe://example.org/web';

const INIT: SshCertificateInit = {
  type: 'user',
  publicKey: encodePublicKey(ED25519),
  serial: 0x7fff_ffff_ffff_ffffn,
  keyId: WEB,
  principals: [WEB, 'deploy'],
  validAfter: new Date('2026-01-02T03:04:05Z'),
  validBefore: new Date('2026-01-02T03:09:05Z'),
  criticalOptions: { 'force-command': 'internal-sftp', 'source-address': '10.0.0.1,fd00::/8' },
  extensions: ['permit-pty', 'permit-X11-forwarding'],
};

const many = (count: number) => Array.from({ length: count }, (_, at) => `p${at}`);

describe('signSshCertificate', () => {
  it('makes no two alike', () => {
    const [one, other] = [signSshCertificate(INIT, ED25519), signSshCertificate(INIT, ED25519)];
    assert.notDeepEqual(one, other);
  });

  it('cuts parts of a second off, so that none is valid longer than asked', () => {
    const validBefore = new Date('2026-01-02T03:09:05.999Z');
    const parsed = parseSshCertificate(signSshCertificate({ ...INIT, validBefore }, ED25519));
    assert.deepEqual(parsed.validBefore, INIT.validBefore);
  });

  it('says an extension once that is asked for twice', () => {
    const init = { ...INIT, extensions: ['permit-pty', 'permit-pty'] };
    const { extensions } = parseSshCertificate(signSshCertificate(init, ED25519));
    assert.deepEqual([...extensions], [['permit-pty', '']]);
  });

  it('writes a critical option without a value as a flag', () => {
    const init = { ...INIT, criticalOptions: { 'no-value@example.org': '' } };
    const { criticalOptions } = parseSshCertificate(signSshCertificate(init, ED25519));
    assert.deepEqual([...criticalOptions], [['no-value@example.org', '']]);
  });

  const refused: Record<string, readonly [Partial<SshCertificateInit>, RegExp]> = {
    'no principals': [{ principals: [] }, /no principals/],
    'an empty principal': [{ principals: [''] }, /empty principal/],
    'a principal twice': [{ principals: ['a', 'a'] }, /a principal twice/],
    'a principal with a line end': [{ principals: ['a\n'] }, /principal: control characters/],
    'a principal too long': [{ principals: ['ü'.repeat(1025)] }, /longer than 2048 bytes/],
    'too many principals': [{ principals: many(257) }, /more than 256/],
    'too many long principals': [
      { principals: many(200).map((name) => name.padEnd(2000)) },
      /principals too long/,
    ],
    'half a surrogate pair': [{ keyId: '\ud800' }, /key ID: control characters/],
    'a key ID with a NUL': [{ keyId: 'a\0b' }, /key ID: control characters/],
    'a key ID too long': [{ keyId: 'ü'.repeat(2049) }, /key ID longer than 4096/],
    'a negative serial': [{ serial: -1n }, /serial not of 64 bits/],
    'a serial of 65 bits': [{ serial: 1n << 64n }, /serial not of 64 bits/],
    'an end before the beginning': [{ validBefore: INIT.validAfter }, /ends before it begins/],
    'no time': [{ validBefore: new Date(Number.NaN) }, /no time/],
    'a time before 1970': [{ validAfter: new Date(-1) }, /before 1970/],
    'a time after 9999': [{ validBefore: new Date(253_402_300_800_000) }, /beyond the year 9999/],
    'a malformed extension': [{ extensions: ['permit pty'] }, /malformed name/],
    'too many extensions': [{ extensions: many(65) }, /more than 64 options/],
    'an option with a line end': [
      { criticalOptions: { 'force-command': 'a\nb' } },
      /value of an option: control characters/,
    ],
    'options too long': [{ criticalOptions: { a: 'x'.repeat(33_000) } }, /options too long/],
    'an address that sshd refuses': [
      { criticalOptions: { 'source-address': '10.0.0.1/8' } },
      /malformed source-address/,
    ],
    'a certificate as the key': [
      { publicKey: handMadeSshCertificate() },
      /a certificate where a plain key belongs/,
    ],
    'a key with bytes after it': [
      { publicKey: Buffer.concat([INIT.publicKey, Buffer.of(0)]) },
      /bytes after the last value/,
    ],
  };
  for (const [what, [change, message]] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      const sign = () => signSshCertificate({ ...INIT, ...change }, ED25519);
      assert.throws(sign, { code: 'SSH_INVALID', message });
    });
  }

  it('refuses an authority that it would not take', () => {
    const small = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey;
    assert.throws(() => signSshCertificate(INIT, small), { code: 'SSH_INVALID' });
  });
});
