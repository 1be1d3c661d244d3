import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  constants,
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
} from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { opensshPrivateKey } from './private-key.ts';
import { encodePublicKey, publicKeyLine } from './public-key.ts';
import { type RsaAlgorithm, signatureAlgorithm, signSsh, verifySsh } from './signature.ts';
import { SshReader, SshWriter } from './wire.ts';

const RSA = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
const ED25519 = generateKeyPairSync('ed25519').privateKey;
const P256 = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;

interface Signer {
  readonly algorithm: string;
  readonly key: KeyObject;
  readonly rsa?: RsaAlgorithm;
}

const SIGNERS: readonly Signer[] = [
  { algorithm: 'ssh-ed25519', key: ED25519 },
  { algorithm: 'ecdsa-sha2-nistp256', key: P256 },
  { algorithm: 'ecdsa-sha2-nistp384', key: newEcKey('P-384') },
  { algorithm: 'ecdsa-sha2-nistp521', key: newEcKey('P-521') },
  { algorithm: 'rsa-sha2-256', key: RSA, rsa: 'rsa-sha2-256' },
  { algorithm: 'rsa-sha2-512', key: RSA, rsa: 'rsa-sha2-512' },
];

const DATA = Buffer.from('what is signed');

function newEcKey(namedCurve: string): KeyObject {
  return generateKeyPairSync('ec', { namedCurve }).privateKey;
}

const signatureOf = (algorithm: string, bytes: Uint8Array) =>
  new SshWriter().string(algorithm).string(bytes).finish();

const ecdsa = (r: Uint8Array, s: Uint8Array) => new SshWriter().string(r).string(s).finish();

describe('signSsh', () => {
  for (const { algorithm, key, rsa } of SIGNERS) {
    it(`signs with ${algorithm} what verifySsh verifies`, () => {
      for (let count = 0; count < 20; count += 1) {
        const signature = signSsh(key, DATA, rsa);
        assert.equal(signatureAlgorithm(signature), algorithm);
        assert.equal(verifySsh(createPublicKey(key), DATA, signature), true);
        assert.equal(verifySsh(key, Buffer.concat([DATA, Buffer.of(0)]), signature), false);
      }
    });

    it(`signs with ${algorithm} so that no byte can change`, () => {
      const signature = signSsh(key, DATA, rsa);
      for (const [at, byte] of signature.entries()) {
        const changed = Buffer.from(signature);
        changed[at] = byte ^ 0x01;
        assert.equal(verifySsh(key, DATA, changed), false, `byte ${at}`);
        assert.equal(verifySsh(key, DATA, signature.subarray(0, at)), false, `${at} bytes`);
      }
      assert.equal(verifySsh(key, DATA, Buffer.concat([signature, Buffer.of(0)])), false);
    });
  }

  it('signs with SHA-512 by an RSA key unless told otherwise', () => {
    assert.equal(signatureAlgorithm(signSsh(RSA, DATA)), 'rsa-sha2-512');
  });
});

describe('verifySsh', () => {
  it('refuses the signatures of other keys and other types of key', () => {
    for (const { key, rsa, algorithm } of SIGNERS) {
      const signature = signSsh(key, DATA, rsa);
      for (const other of SIGNERS) {
        const same = other.key === key;
        assert.equal(
          verifySsh(other.key, DATA, signature),
          same,
          `${algorithm} ${other.algorithm}`,
        );
      }
    }
    assert.equal(verifySsh(newEcKey('P-256'), DATA, signSsh(P256, DATA)), false);
  });

  it('refuses RSA over SHA-1, whatever it is called', () => {
    const sha1 = sign('sha1', DATA, RSA);
    for (const algorithm of ['ssh-rsa', 'rsa-sha2-256', 'rsa-sha2-512']) {
      assert.equal(verifySsh(RSA, DATA, signatureOf(algorithm, sha1)), false, algorithm);
    }
  });

  it('refuses RSA over one hash under the name of another', () => {
    const sha256 = sign('sha256', DATA, RSA);
    assert.equal(verifySsh(RSA, DATA, signatureOf('rsa-sha2-512', sha256)), false);
    assert.equal(verifySsh(RSA, DATA, signatureOf('ssh-rsa', sha256)), false);
  });

  it('refuses RSA with the padding of PSS', () => {
    const padding = constants.RSA_PKCS1_PSS_PADDING;
    const pss = sign('sha256', DATA, { key: RSA, padding });
    assert.equal(verifySsh(RSA, DATA, signatureOf('rsa-sha2-256', pss)), false);
  });

  it('refuses a good signature under the name of a certificate', () => {
    const reader = new SshReader(signSsh(ED25519, DATA));
    reader.string();
    const name = 'ssh-ed25519-cert-v01@openssh.com';
    assert.equal(verifySsh(ED25519, DATA, signatureOf(name, reader.string())), false);
  });

  it('refuses ECDSA in DER', () => {
    const der = sign('sha256', DATA, P256);
    assert.equal(verifySsh(P256, DATA, signatureOf('ecdsa-sha2-nistp256', der)), false);
  });

  it('refuses ECDSA numbers of a second encoding', () => {
    const { r, s } = smallNumbers();
    const good = new SshWriter().mpint(r).mpint(s).finish();
    assert.equal(verifySsh(P256, DATA, signatureOf('ecdsa-sha2-nistp256', good)), true);
    for (const [first, second] of [
      [Buffer.concat([Buffer.of(0), r]), s],
      [r, Buffer.concat([Buffer.of(0), s])],
    ] as const) {
      const bytes = ecdsa(first, second);
      assert.equal(verifySsh(P256, DATA, signatureOf('ecdsa-sha2-nistp256', bytes)), false);
    }
  });

  const empty = Buffer.alloc(0);
  const garbage = {
    nothing: empty,
    'an algorithm alone': new SshWriter().string('ssh-ed25519').finish(),
    'an empty signature': signatureOf('ssh-ed25519', empty),
    'zeros for Ed25519': signatureOf('ssh-ed25519', Buffer.alloc(64)),
    '63 bytes for Ed25519': signatureOf('ssh-ed25519', Buffer.alloc(63)),
    'an empty RSA signature': signatureOf('rsa-sha2-512', empty),
    'RSA zeros': signatureOf('rsa-sha2-512', Buffer.alloc(256)),
    'RSA bytes over the modulus': signatureOf('rsa-sha2-512', Buffer.alloc(256, 0xff)),
    'RSA too long': signatureOf('rsa-sha2-512', Buffer.alloc(257, 1)),
    'ECDSA of zeros': signatureOf('ecdsa-sha2-nistp256', ecdsa(empty, empty)),
    'ECDSA of one number': signatureOf('ecdsa-sha2-nistp256', new SshWriter().string('a').finish()),
    'ECDSA with bytes after': signatureOf(
      'ecdsa-sha2-nistp256',
      Buffer.concat([ecdsa(Buffer.of(1), Buffer.of(1)), Buffer.of(0)]),
    ),
    'ECDSA of large numbers': signatureOf(
      'ecdsa-sha2-nistp256',
      ecdsa(Buffer.alloc(33, 1), Buffer.alloc(33, 1)),
    ),
    '64 KiB': signatureOf('ssh-ed25519', Buffer.alloc(65_536)),
    'a length of 4 GiB': Buffer.from('ffffffff00', 'hex'),
  };
  for (const [what, signature] of Object.entries(garbage)) {
    it(`refuses ${what} without throwing`, () => {
      for (const { key } of SIGNERS) assert.equal(verifySsh(key, DATA, signature), false);
    });
  }
});

/** A signature whose numbers have no sign byte, so that a zero before them is one too many. */
function smallNumbers(): { r: Buffer; s: Buffer } {
  for (;;) {
    const reader = new SshReader(signSsh(P256, DATA));
    reader.name();
    const numbers = new SshReader(reader.string());
    const [r, s] = [numbers.mpint(), numbers.mpint()];
    if ((r[0] ?? 0) < 0x80 && (s[0] ?? 0) < 0x80) return { r, s };
  }
}

describe('signatureAlgorithm', () => {
  const refused = {
    nothing: Buffer.alloc(0),
    'no name': signatureOf('', Buffer.alloc(64)),
    'a name over two lines': signatureOf('ssh-ed25519\n', Buffer.alloc(64)),
    'bytes after': Buffer.concat([signSsh(ED25519, DATA), Buffer.of(0)]),
  };
  for (const [what, signature] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      assert.throws(() => signatureAlgorithm(signature), { code: 'SSH_INVALID' });
    });
  }
});

/** A file's signature by OpenSSH: its parts. Source: OpenSSH, PROTOCOL.sshsig. */
const NAMESPACE = 'writ-test';

function sshsigData(message: Buffer, hash: string): Buffer {
  const digest = createHash(hash).update(message).digest();
  return new SshWriter()
    .raw(Buffer.from('SSHSIG'))
    .string(NAMESPACE)
    .string('')
    .string(hash)
    .string(digest)
    .finish();
}

function sshsigFile(publicKey: Buffer, signature: Buffer): string {
  const blob = new SshWriter()
    .raw(Buffer.from('SSHSIG'))
    .u32(1)
    .string(publicKey)
    .string(NAMESPACE)
    .string('')
    .string('sha512')
    .string(signature)
    .finish();
  const lines = blob.toString('base64').match(/.{1,70}/g) ?? [];
  return ['-----BEGIN SSH SIGNATURE-----', ...lines, '-----END SSH SIGNATURE-----', ''].join('\n');
}

function signatureInSshsig(armored: string): { signature: Buffer; hash: string } {
  const base64 = armored.split('\n').filter((line) => !line.startsWith('-----'));
  const blob = Buffer.from(base64.join(''), 'base64');
  const reader = new SshReader(blob.subarray(6));
  assert.equal(blob.toString('latin1', 0, 6), 'SSHSIG');
  assert.equal(reader.u32(), 1);
  reader.string();
  assert.equal(reader.text(), NAMESPACE);
  reader.string();
  const hash = reader.text();
  const signature = reader.string();
  reader.end();
  return { signature, hash };
}

describe('OpenSSH', () => {
  let directory: string;

  before(function () {
    if (!hasProgram('ssh-keygen')) skipWithout(this, 'ssh-keygen');
    directory = mkdtempSync(join(tmpdir(), 'writ-ssh-'));
  });

  after(() => {
    if (directory !== undefined) rmSync(directory, { recursive: true });
  });

  for (const { algorithm, key, rsa } of SIGNERS) {
    it(`verifies what we sign with ${algorithm}`, () => {
      const file = join(directory, `${algorithm}.sig`);
      const signature = signSsh(key, sshsigData(DATA, 'sha512'), rsa);
      writeFileSync(file, sshsigFile(encodePublicKey(key), signature));
      const check = ['-Y', 'check-novalidate', '-n', NAMESPACE, '-s', file];
      const said = execFileSync('ssh-keygen', check, { input: DATA, encoding: 'utf8' });
      assert.match(said, /^Good "writ-test" signature/);
    });

    it(`signs what we verify, by the key of ${algorithm}`, () => {
      const file = join(directory, algorithm);
      writeFileSync(file, opensshPrivateKey(key), { mode: 0o600 });
      writeFileSync(`${file}.pub`, `${publicKeyLine(encodePublicKey(key))}\n`);
      const args = ['-Y', 'sign', '-q', '-n', NAMESPACE, '-f', file];
      const armored = execFileSync('ssh-keygen', args, { input: DATA, encoding: 'utf8' });
      const { signature, hash } = signatureInSshsig(armored);
      assert.equal(verifySsh(key, sshsigData(DATA, hash), signature), true);
      assert.equal(verifySsh(key, sshsigData(Buffer.of(0), hash), signature), false);
    });
  }
});
