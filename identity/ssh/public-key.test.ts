import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { handMadeSshCertificate } from '../../test/fixtures/hand-made-ssh-certificate.ts';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import {
  encodePublicKey,
  fingerprint,
  parsePublicKey,
  parsePublicKeyLine,
  publicKeyLine,
  sshKeyType,
} from './public-key.ts';
import { SshWriter } from './wire.ts';

const KEYS: ReadonlyMap<string, KeyObject> = new Map([
  ['ssh-ed25519', generateKeyPairSync('ed25519').privateKey],
  ['ecdsa-sha2-nistp256', generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey],
  ['ecdsa-sha2-nistp384', generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey],
  ['ecdsa-sha2-nistp521', generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey],
  ['ssh-rsa', generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey],
]);

/** ssh-keygen's names for -t and -b. */
const OPENSSH_KEYS = [
  ['-t', 'ed25519'],
  ['-t', 'ecdsa', '-b', '256'],
  ['-t', 'ecdsa', '-b', '384'],
  ['-t', 'ecdsa', '-b', '521'],
  ['-t', 'rsa', '-b', '2048'],
  ['-t', 'rsa', '-b', '3072'],
];

const blobOf = (type: string) => encodePublicKey(KEYS.get(type) ?? raise(type));
const ed25519 = blobOf('ssh-ed25519');
const base64 = ed25519.toString('base64');

function raise(what: string): never {
  throw new Error(`no ${what}`);
}

function rsaBlob(modulus: Buffer, exponent: Buffer): Buffer {
  return new SshWriter().string('ssh-rsa').mpint(exponent).mpint(modulus).finish();
}

function odd(bytes: number, first = 0xff): Buffer {
  const modulus = Buffer.alloc(bytes, 0xff);
  modulus[0] = first;
  return modulus;
}

function ecBlob(curve: string, point: Buffer, type = `ecdsa-sha2-${curve}`): Buffer {
  return new SshWriter().string(type).string(curve).string(point).finish();
}

/** The point of an ECDSA blob: the last of its strings. */
function pointOf(type: string, size: number): Buffer {
  return blobOf(type).subarray(-(1 + 2 * size));
}

/** The same point with p added to x: it fits, as P-521's numbers have room for it. */
function withXPlusP(point: Buffer): Buffer {
  const p = (1n << 521n) - 1n;
  const x = BigInt(`0x${point.toString('hex', 1, 67)}`) + p;
  const hex = x.toString(16).padStart(132, '0');
  return Buffer.concat([Buffer.of(4), Buffer.from(hex, 'hex'), point.subarray(67)]);
}

function withDirectory(run: (directory: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'writ-ssh-'));
  try {
    run(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe('encodePublicKey', () => {
  for (const [type, key] of KEYS) {
    it(`is undone by parsePublicKey for ${type}, private key or public`, () => {
      const blob = encodePublicKey(key);
      const parsed = parsePublicKey(blob);
      assert.equal(sshKeyType(key), type);
      assert.equal(parsed.type, 'public');
      assert.ok(parsed.equals(createPublicKey(key)));
      assert.deepEqual(encodePublicKey(parsed), blob);
    });
  }

  const refused = {
    'another curve': generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey,
    'a key for agreement': generateKeyPairSync('x25519').publicKey,
    Ed448: generateKeyPairSync('ed448').publicKey,
    'RSA for PSS alone': generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).publicKey,
    'RSA of 1024 bits': generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey,
    'RSA with exponent 3': generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 })
      .publicKey,
    DSA: generateKeyPairSync('dsa', { modulusLength: 2048, divisorLength: 256 }).publicKey,
    'a point of small order': createPublicKey({
      key: { kty: 'OKP', crv: 'Ed25519', x: Buffer.alloc(32).toString('base64url') },
      format: 'jwk',
    }),
  };
  for (const [what, key] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      assert.throws(() => encodePublicKey(key), { code: 'SSH_INVALID' });
    });
  }
});

describe('parsePublicKey', () => {
  const p256 = pointOf('ecdsa-sha2-nistp256', 32);
  const p521 = pointOf('ecdsa-sha2-nistp521', 66);
  const offCurve = Buffer.from(p256);
  offCurve[64] = (offCurve[64] ?? 0) ^ 1;
  const withType = (type: string) =>
    new SshWriter().string(type).string(Buffer.alloc(32, 7)).finish();
  const e = Buffer.of(1, 0, 1);
  const refused: Record<string, readonly [Buffer, RegExp]> = {
    nothing: [Buffer.alloc(0), /ends too early/],
    'text that is no key': [Buffer.from('hello'), /longer than 64 bytes/],
    'over 64 KiB': [Buffer.alloc(65_537), /longer than 65536 bytes/],
    'an unknown type': [withType('ssh-ed448'), /type not allowed/],
    DSA: [withType('ssh-dss'), /type not allowed/],
    'a key in hardware': [withType('sk-ssh-ed25519@openssh.com'), /type not allowed/],
    'a name every object has': [withType('constructor'), /type not allowed/],
    'a certificate': [handMadeSshCertificate(), /a certificate where a plain key belongs/],
    'bytes after the key': [Buffer.concat([ed25519, Buffer.of(0)]), /bytes after the last value/],
    'a key cut short': [ed25519.subarray(0, -1), /ends too early/],
    'an Ed25519 key of 31 bytes': [
      new SshWriter().string('ssh-ed25519').string(Buffer.alloc(31, 9)).finish(),
      /no point of Ed25519/,
    ],
    'an Ed25519 key of 33 bytes': [
      new SshWriter().string('ssh-ed25519').string(Buffer.alloc(33, 9)).finish(),
      /longer than 32 bytes/,
    ],
    'an Ed25519 point of small order': [
      new SshWriter().string('ssh-ed25519').string(Buffer.alloc(32)).finish(),
      /no point of Ed25519/,
    ],
    'an Ed25519 point off the curve': [
      new SshWriter()
        .string('ssh-ed25519')
        .string(Buffer.of(2, ...Buffer.alloc(31)))
        .finish(),
      /no point of Ed25519/,
    ],
    'another curve than the type says': [
      ecBlob('nistp384', p256, 'ecdsa-sha2-nistp256'),
      /curve other than the type says/,
    ],
    'a point of another curve': [ecBlob('nistp384', p256), /not uncompressed, or not of the curve/],
    'a point of a larger curve': [ecBlob('nistp256', p521), /longer than 65 bytes/],
    'a compressed point': [
      ecBlob('nistp256', Buffer.concat([Buffer.of(2), p256.subarray(1, 33)])),
      /not uncompressed/,
    ],
    'a hybrid point': [
      ecBlob('nistp256', Buffer.concat([Buffer.of(6), p256.subarray(1)])),
      /not uncompressed/,
    ],
    'the point at infinity': [ecBlob('nistp256', Buffer.of(0)), /not uncompressed/],
    'a point at zero': [
      ecBlob('nistp256', Buffer.of(4, ...Buffer.alloc(64))),
      /no point of its curve/,
    ],
    'a point off the curve': [ecBlob('nistp256', offCurve), /no point of its curve/],
    'a second encoding of a point': [ecBlob('nistp521', withXPlusP(p521)), /no point of its curve/],
    'RSA of 2047 bits': [rsaBlob(odd(256, 0x7f), e), /RSA of 2048 to 8192 bits only/],
    'RSA of 1024 bits': [rsaBlob(odd(128), e), /RSA of 2048 to 8192 bits only/],
    'RSA of 8193 bits': [rsaBlob(odd(1025, 1), e), /longer than 1024 bytes/],
    'RSA of 65 KiB': [rsaBlob(odd(65_000), e), /longer than 1025 bytes/],
    'RSA of nothing': [rsaBlob(Buffer.alloc(0), e), /RSA of 2048 to 8192 bits only/],
    'RSA with an even modulus': [rsaBlob(Buffer.alloc(256, 0xfe), e), /modulus even/],
    'RSA with exponent 1': [rsaBlob(odd(256), Buffer.of(1)), /exponent not allowed/],
    'RSA with exponent 3': [rsaBlob(odd(256), Buffer.of(3)), /exponent not allowed/],
    'RSA without exponent': [rsaBlob(odd(256), Buffer.alloc(0)), /exponent not allowed/],
    'RSA with an even exponent': [rsaBlob(odd(256), Buffer.of(1, 0, 2)), /exponent not allowed/],
    'RSA with a huge exponent': [rsaBlob(odd(256), odd(255)), /longer than 5 bytes/],
    'RSA with a negative modulus': [
      new SshWriter().string('ssh-rsa').mpint(e).string(odd(256)).finish(),
      /negative/,
    ],
    'RSA with a modulus not minimal': [
      new SshWriter()
        .string('ssh-rsa')
        .mpint(e)
        .string(Buffer.of(0, 0, ...odd(256)))
        .finish(),
      /not minimal/,
    ],
    'RSA with an exponent not minimal': [
      new SshWriter()
        .string('ssh-rsa')
        .string(Buffer.of(0, 1, 0, 1))
        .mpint(odd(256))
        .finish(),
      /not minimal/,
    ],
  };
  for (const [what, [blob, message]] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      assert.throws(() => parsePublicKey(blob), { code: 'SSH_INVALID', message });
    });
  }

  it('takes the largest RSA keys, and the largest exponent', () => {
    for (const blob of [rsaBlob(odd(1024), e), rsaBlob(odd(256), odd(4))]) {
      assert.deepEqual(encodePublicKey(parsePublicKey(blob)), blob);
    }
  });

  it('either refuses a blob with any byte changed, or writes it again as it was', () => {
    let parsed = 0;
    for (const type of KEYS.keys()) {
      for (const [at, byte] of blobOf(type).entries()) {
        for (const mask of [0x01, 0x80, 0xff]) {
          const blob = blobOf(type);
          blob[at] = byte ^ mask;
          if (rewrites(blob)) parsed += 1;
        }
      }
    }
    assert.ok(parsed > 0);
  });
});

/** False if the blob is refused; fails if it is taken and is not what is written again. */
function rewrites(blob: Buffer): boolean {
  let key: KeyObject;
  try {
    key = parsePublicKey(blob);
  } catch (error) {
    assert.equal(error instanceof Error && 'code' in error && error.code, 'SSH_INVALID');
    return false;
  }
  assert.deepEqual(encodePublicKey(key), blob);
  return true;
}

describe('publicKeyLine', () => {
  it('names the type, and the comment if there is one', () => {
    assert.equal(publicKeyLine(ed25519), `ssh-ed25519 ${base64}`);
    assert.equal(publicKeyLine(ed25519, 'of web 1'), `ssh-ed25519 ${base64} of web 1`);
  });

  it('writes certificates too', () => {
    const blob = handMadeSshCertificate();
    const line = `ssh-ed25519-cert-v01@openssh.com ${blob.toString('base64')}`;
    assert.equal(publicKeyLine(blob), line);
  });

  it('refuses a comment that would begin another line', () => {
    assert.throws(() => publicKeyLine(ed25519, 'a\nssh-ed25519 AAAA'), { code: 'SSH_INVALID' });
  });

  it('refuses a blob of no type that we know', () => {
    const blob = new SshWriter().string('command="x"').finish();
    assert.throws(() => publicKeyLine(blob), { code: 'SSH_INVALID' });
  });
});

describe('parsePublicKeyLine', () => {
  for (const [type, key] of KEYS) {
    it(`is undone by publicKeyLine for ${type}`, () => {
      const blob = encodePublicKey(key);
      assert.deepEqual(parsePublicKeyLine(publicKeyLine(blob, 'of web 1')), blob);
    });
  }

  it('takes a line with its end, and blanks between', () => {
    assert.deepEqual(parsePublicKeyLine(`  ssh-ed25519 \t${base64}\tof web 1 \r\n`), ed25519);
  });

  const unpadded = blobOf('ecdsa-sha2-nistp256').toString('base64').replace(/=+$/, '');
  const refused = {
    nothing: '',
    'a type alone': 'ssh-ed25519',
    'no base64': 'ssh-ed25519 !!!!',
    'base64 of URLs': `ssh-rsa ${blobOf('ssh-rsa').toString('base64url')}`,
    'base64 without its padding': `ecdsa-sha2-nistp256 ${unpadded}`,
    'base64 with stray bits': `ssh-ed25519 ${base64.slice(0, -1)}`,
    'another type than the key': `ssh-rsa ${base64}`,
    'options before the key': `restrict ssh-ed25519 ${base64}`,
    'two lines': `ssh-ed25519 ${base64}\nssh-ed25519 ${base64}\n`,
    'a certificate': publicKeyLine(handMadeSshCertificate()),
    'a key that is none': `ssh-ed25519 ${ed25519.subarray(0, -1).toString('base64')}`,
    'a line of 200 KiB': `ssh-ed25519 ${base64} ${'x'.repeat(200_000)}`,
  };
  for (const [what, line] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      assert.throws(() => parsePublicKeyLine(line), { code: 'SSH_INVALID' });
    });
  }
});

describe('OpenSSH', () => {
  it('makes keys that we read and write again, with the same fingerprints', function () {
    if (!hasProgram('ssh-keygen')) skipWithout(this, 'ssh-keygen');
    withDirectory((directory) => {
      for (const [index, options] of OPENSSH_KEYS.entries()) {
        const file = join(directory, `key-${index}`);
        execFileSync('ssh-keygen', ['-q', '-N', '', '-C', 'a comment', '-f', file, ...options]);
        const line = readFileSync(`${file}.pub`, 'utf8').trim();
        const blob = parsePublicKeyLine(line);
        assert.equal(publicKeyLine(encodePublicKey(parsePublicKey(blob)), 'a comment'), line);
        const listed = execFileSync('ssh-keygen', ['-l', '-f', `${file}.pub`], {
          encoding: 'utf8',
        });
        assert.equal(listed.split(' ')[1], fingerprint(blob));
      }
    });
  });

  it('reads the keys that we write', function () {
    if (!hasProgram('ssh-keygen')) skipWithout(this, 'ssh-keygen');
    const blobs = [...KEYS.keys()].map(blobOf);
    // Each new key may have a leading zero in one of its numbers.
    for (const namedCurve of ['P-256', 'P-384', 'P-521']) {
      for (let count = 0; count < 300; count += 1) {
        blobs.push(encodePublicKey(generateKeyPairSync('ec', { namedCurve }).publicKey));
      }
    }
    withDirectory((directory) => {
      const file = join(directory, 'keys');
      writeFileSync(file, blobs.map((blob) => `${publicKeyLine(blob, 'c')}\n`).join(''));
      const listed = execFileSync('ssh-keygen', ['-l', '-f', file], { encoding: 'utf8' });
      const fingerprints = listed
        .trim()
        .split('\n')
        .map((line) => line.split(' ')[1]);
      assert.deepEqual(fingerprints, blobs.map(fingerprint));
    });
  });
});
