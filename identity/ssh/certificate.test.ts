import assert from 'node:assert/strict';
import {
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign as signData,
} from 'node:crypto';
import {
  handMadeSshCertificate,
  newSshKey,
  optionValue,
  type SshOption,
  type SshParts,
  sshKeyFields,
} from '../../test/fixtures/hand-made-ssh-certificate.ts';
import {
  isSshCertificate,
  parseCertificateLine,
  parseSshCertificate,
  type SshCertificateInit,
  signSshCertificate,
} from './certificate.ts';
import { encodePublicKey, publicKeyLine, sshKeyType } from './public-key.ts';
import { signSsh } from './signature.ts';
import { SshWriter } from './wire.ts';

const ED25519 = newSshKey();
const RSA = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
const KEYS: readonly KeyObject[] = [ED25519, RSA, ec('P-256'), ec('P-384'), ec('P-521')];
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

function ec(namedCurve: string): KeyObject {
  return generateKeyPairSync('ec', { namedCurve }).privateKey;
}

const many = (count: number) => Array.from({ length: count }, (_, at) => `p${at}`);
const flags = (...names: string[]): SshOption[] => names.map((name) => [name, Buffer.alloc(0)]);
const value = (name: string, data: Buffer): SshOption[] => [[name, data]];
const type = (number: number) => `type ${number}`;

describe('parseSshCertificate', () => {
  for (const authority of KEYS) {
    for (const key of KEYS) {
      const [of, by] = [key, authority].map((one) => sshKeyType(one));
      it(`reads back what was signed for ${of} by ${by}`, () => {
        const publicKey = encodePublicKey(key);
        const blob = signSshCertificate({ ...INIT, publicKey }, authority);
        const parsed = parseSshCertificate(blob);
        assert.ok(parsed.key.equals(createPublicKey(key)));
        assert.equal(parsed.algorithm, `${parsed.keyType}-cert-v01@openssh.com`);
        assert.deepEqual(parsed.publicKey, publicKey);
        assert.deepEqual(parsed.authority, encodePublicKey(authority));
        assert.deepEqual(parsed.blob, blob);
      });
    }
  }

  it('reads back all that was said', () => {
    const parsed = parseSshCertificate(signSshCertificate(INIT, ED25519));
    const { serial, keyId, principals, validAfter, validBefore } = parsed;
    assert.deepEqual(
      { type: parsed.type, serial, keyId, principals, validAfter, validBefore },
      {
        type: 'user',
        serial: INIT.serial,
        keyId: WEB,
        principals: [WEB, 'deploy'],
        validAfter: INIT.validAfter,
        validBefore: INIT.validBefore,
      },
    );
    assert.deepEqual(
      [...parsed.criticalOptions],
      [
        ['force-command', 'internal-sftp'],
        ['source-address', '10.0.0.1,fd00::/8'],
      ],
    );
    assert.deepEqual(
      [...parsed.extensions],
      [
        ['permit-X11-forwarding', ''],
        ['permit-pty', ''],
      ],
    );
  });

  it('reads what only a hand makes and is still well-formed', () => {
    const parsed = parseSshCertificate(
      handMadeSshCertificate({
        type: 2,
        nonce: Buffer.alloc(16),
        keyId: '',
        principals: [],
        serial: (1n << 64n) - 1n,
        validAfter: 0n,
        validBefore: 253_402_300_799n,
        extensions: value('note@example.org', optionValue('grün')),
      }),
    );
    assert.equal(parsed.type, 'host');
    assert.equal(parsed.keyId, '');
    assert.deepEqual(parsed.principals, []);
    assert.equal(parsed.serial, (1n << 64n) - 1n);
    assert.equal(parsed.validAfter.toISOString(), '1970-01-01T00:00:00.000Z');
    assert.equal(parsed.validBefore.toISOString(), '9999-12-31T23:59:59.000Z');
    assert.deepEqual([...parsed.extensions], [['note@example.org', 'grün']]);
  });

  it('keeps nothing of the memory it was given', () => {
    const given = handMadeSshCertificate();
    const copy = Buffer.from(given);
    const parsed = parseSshCertificate(given);
    given.fill(0);
    assert.deepEqual(parsed.blob, copy);
    assert.notDeepEqual(parsed.authority, Buffer.alloc(parsed.authority.length));
  });

  it('takes up to 256 principals and 64 options', () => {
    const options = flags(...many(64).sort());
    const parts = { principals: many(256), criticalOptions: options, extensions: options };
    const parsed = parseSshCertificate(handMadeSshCertificate(parts));
    assert.equal(parsed.principals.length, 256);
    assert.equal(parsed.criticalOptions.size, 64);
    assert.equal(parsed.extensions.size, 64);
  });

  const refused: Record<string, readonly [SshParts, RegExp]> = {
    'an unknown type': [{ typeName: 'ssh-dss-cert-v01@openssh.com' }, /type not allowed/],
    'the first version': [{ typeName: 'ssh-ed25519-cert-v00@openssh.com' }, /type not allowed/],
    'a certificate of a certificate': [
      { typeName: 'ssh-ed25519-cert-v01@openssh.com-cert-v01@openssh.com' },
      /longer than 64|type not allowed/,
    ],
    'a plain key': [{ typeName: 'ssh-ed25519' }, /plain key/],
    'the type of another key': [{ typeName: 'ssh-rsa-cert-v01@openssh.com' }, /SSH certificate: /],
    'a nonce of 15 bytes': [{ nonce: Buffer.alloc(15) }, /nonce shorter/],
    'a nonce of 65 bytes': [{ nonce: Buffer.alloc(65) }, /longer than 64 bytes/],
    'a subject that is no point': [
      { keyFields: new SshWriter().string(Buffer.alloc(32)).finish() },
      /no point of Ed25519/,
    ],
    'an RSA subject of 1024 bits': [
      {
        typeName: 'ssh-rsa-cert-v01@openssh.com',
        keyFields: new SshWriter()
          .mpint(Buffer.of(1, 0, 1))
          .mpint(Buffer.alloc(128, 0xff))
          .finish(),
      },
      /RSA of 2048 to 8192 bits only/,
    ],
    'an RSA subject with a number not minimal': [
      {
        typeName: 'ssh-rsa-cert-v01@openssh.com',
        keyFields: Buffer.concat([Buffer.from('0000000400010001', 'hex'), sshKeyFields(RSA)]),
      },
      /not minimal/,
    ],
    [type(0)]: [{ type: 0 }, /neither of a user nor of a host/],
    [type(3)]: [{ type: 3 }, /neither of a user nor of a host/],
    [type(0x1_0000)]: [{ type: 0x1_0000 }, /neither of a user nor of a host/],
    'a key ID that is no UTF-8': [{ keyId: Buffer.of(0xff) }, /no UTF-8/],
    'a key ID with a line end': [{ keyId: 'a\nb' }, /key ID: control characters/],
    'a key ID with a NUL': [{ keyId: 'a\0' }, /key ID: control characters/],
    'a key ID that reads backwards': [{ keyId: 'a\u202eb' }, /key ID: control characters/],
    'a key ID of 4097 bytes': [{ keyId: 'a'.repeat(4097) }, /longer than 4096 bytes/],
    'a principal that is no UTF-8': [{ principals: [Buffer.of(0xc0, 0x80)] }, /no UTF-8/],
    'a principal with an escape': [{ principals: ['a\u001b[2K'] }, /principal: control characters/],
    'a principal with a DEL': [{ principals: ['a\u007f'] }, /principal: control characters/],
    'a principal with a byte order mark': [{ principals: ['\ufeffa'] }, /principal: control/],
    'an empty principal': [{ principals: ['a', ''] }, /empty principal/],
    'a principal twice': [{ principals: ['a', 'b', 'a'] }, /a principal twice/],
    'a principal of 2049 bytes': [{ principals: ['a'.repeat(2049)] }, /longer than 2048 bytes/],
    '257 principals': [{ principals: many(257) }, /more than 256 principals/],
    '40 KiB of principals': [
      { principals: many(9).map((p) => p + 'x'.repeat(4000)) },
      /longer than/,
    ],
    'principals with a length beyond the end': [
      { principalBytes: Buffer.from('ffffffff61', 'hex') },
      /ends too early|longer than/,
    ],
    'principals with bytes after them': [
      { principalBytes: Buffer.from('00000001610000', 'hex') },
      /ends too early/,
    ],
    'no end of validity': [{ validBefore: (1n << 64n) - 1n }, /beyond the year 9999/],
    'an end in the year 10000': [{ validBefore: 253_402_300_800n }, /beyond the year 9999/],
    'a beginning out of all reach': [{ validAfter: (1n << 64n) - 1n }, /beyond the year 9999/],
    'an end before the beginning': [{ validAfter: 5n, validBefore: 4n }, /ends before it begins/],
    'an end at the beginning': [{ validAfter: 5n, validBefore: 5n }, /ends before it begins/],
    'critical options out of order': [{ criticalOptions: flags('b', 'a') }, /not sorted/],
    'a critical option twice': [{ criticalOptions: flags('a', 'a') }, /not sorted, or one twice/],
    'extensions out of order': [{ extensions: flags('permit-pty', 'permit-X11') }, /not sorted/],
    'an extension twice': [{ extensions: flags('a', 'b', 'b') }, /not sorted, or one twice/],
    'an option without a name': [{ criticalOptions: flags('') }, /malformed name/],
    'an option with a blank in its name': [{ extensions: flags('permit pty') }, /malformed name/],
    'an option with letters beyond ASCII': [{ extensions: flags('grün') }, /malformed name/],
    'an option with a name of 129 bytes': [
      { extensions: flags('a'.repeat(129)) },
      /malformed name/,
    ],
    'an option that is not a string': [
      { criticalOptions: value('force-command', Buffer.from('ls')) },
      /ends too early/,
    ],
    'an option of two strings': [
      { criticalOptions: value('a', Buffer.concat([optionValue('b'), optionValue('c')])) },
      /bytes after the last value/,
    ],
    'an option with an empty value': [
      { criticalOptions: value('a', optionValue('')) },
      /option with an empty value/,
    ],
    'an option with a line end': [
      { criticalOptions: value('force-command', optionValue('a\nb')) },
      /value of an option: control characters/,
    ],
    'an option that is no UTF-8': [
      { extensions: value('a', optionValue(Buffer.of(0xff))) },
      /no UTF-8/,
    ],
    '65 critical options': [{ criticalOptions: flags(...many(65).sort()) }, /more than 64 options/],
    '65 extensions': [{ extensions: flags(...many(65).sort()) }, /more than 64 options/],
    '33 KiB of options': [
      { extensions: value('a', optionValue('x'.repeat(33_000))) },
      /options too long/,
    ],
    'a reserved field': [{ reserved: Buffer.of(0) }, /reserved field not empty/],
    'an authority that is a certificate': [
      { authorityBlob: handMadeSshCertificate() },
      /a certificate where a plain key belongs/,
    ],
    'an authority that is no key': [{ authorityBlob: Buffer.from('hello') }, /SSH key: /],
    'an authority with bytes after it': [
      { authorityBlob: Buffer.concat([INIT.publicKey, Buffer.of(0)]) },
      /bytes after the last value/,
    ],
    'an authority of RSA with 1024 bits': [
      {
        authorityBlob: new SshWriter()
          .string('ssh-rsa')
          .mpint(Buffer.of(1, 0, 1))
          .mpint(Buffer.alloc(128, 0xff))
          .finish(),
      },
      /RSA of 2048 to 8192 bits only/,
    ],
    'a signature of another authority': [
      { sign: (signed) => signSsh(ED25519, signed) },
      /signature of its authority does not verify/,
    ],
    'no signature': [{ sign: () => Buffer.alloc(0) }, /does not verify/],
    'bytes after the signature': [{ trailing: Buffer.of(0) }, /bytes after the last value/],
    'a second certificate after it': [
      { trailing: handMadeSshCertificate() },
      /bytes after the last value/,
    ],
    'over 64 KiB': [{ trailing: Buffer.alloc(65_536) }, /longer than 65536 bytes/],
  };
  for (const [what, [parts, message]] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      const blob = handMadeSshCertificate(parts);
      assert.throws(() => parseSshCertificate(blob), { code: 'SSH_INVALID', message });
    });
  }

  it('refuses a signature over SHA-1 by an RSA authority', () => {
    const sign = (signed: Buffer) =>
      new SshWriter()
        .string('ssh-rsa')
        .string(signData('sha1', signed, RSA))
        .finish();
    const blob = handMadeSshCertificate({ authority: RSA, sign });
    assert.throws(() => parseSshCertificate(blob), { code: 'SSH_INVALID' });
  });
});

describe('isSshCertificate', () => {
  it('goes by what the blob says it is', () => {
    assert.equal(isSshCertificate(handMadeSshCertificate()), true);
    assert.equal(isSshCertificate(handMadeSshCertificate().subarray(0, 40)), true);
    assert.equal(isSshCertificate(INIT.publicKey), false);
    assert.equal(isSshCertificate(Buffer.alloc(0)), false);
    assert.equal(isSshCertificate(Buffer.alloc(100, 0xff)), false);
  });
});

describe('parseCertificateLine', () => {
  it('is undone by publicKeyLine', () => {
    const blob = handMadeSshCertificate();
    assert.deepEqual(parseCertificateLine(publicKeyLine(blob, 'of web')), blob);
  });

  const blob = handMadeSshCertificate();
  const refused = {
    'a plain key': publicKeyLine(INIT.publicKey),
    'a certificate cut short': publicKeyLine(blob.subarray(0, -1)),
    'another type than the certificate': publicKeyLine(blob).replace('ssh-ed25519', 'ssh-rsa'),
  };
  for (const [what, line] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      assert.throws(() => parseCertificateLine(line), { code: 'SSH_INVALID' });
    });
  }
});
