import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import {
  handMadeSshCertificate,
  newSshKey,
} from '../../test/fixtures/hand-made-ssh-certificate.ts';
import { OPENSSH_HOSTBOUND, OPENSSH_PUBLICKEY } from '../../test/fixtures/openssh-login.ts';
import { isSshCertificate, parseSshCertificate } from './certificate.ts';
import { encodePublicKey } from './public-key.ts';
import { signSsh } from './signature.ts';
import { parseUserAuthData, verifyUserAuth } from './user-auth.ts';
import { SshWriter } from './wire.ts';

const KEY = newSshKey();
const CERTIFICATE = handMadeSshCertificate({ key: KEY });
const ED25519_CERT = 'ssh-ed25519-cert-v01@openssh.com';

interface Parts {
  readonly sessionId?: Uint8Array;
  readonly number?: number;
  readonly user?: string | Uint8Array;
  readonly service?: string;
  readonly method?: string;
  readonly hasSignature?: number;
  readonly algorithm?: string;
  readonly publicKey?: Uint8Array;
  readonly trailing?: Uint8Array;
}

function signedData(parts: Parts = {}): Buffer {
  return new SshWriter()
    .string(parts.sessionId ?? Buffer.alloc(32, 7))
    .u8(parts.number ?? 50)
    .string(parts.user ?? 'deploy+web-1')
    .string(parts.service ?? 'ssh-connection')
    .string(parts.method ?? 'publickey')
    .u8(parts.hasSignature ?? 1)
    .string(parts.algorithm ?? ED25519_CERT)
    .string(parts.publicKey ?? CERTIFICATE)
    .raw(parts.trailing ?? new Uint8Array())
    .finish();
}

const HOSTBOUND: Parts = {
  method: 'publickey-hostbound-v00@openssh.com',
  trailing: new SshWriter().string('the host key').finish(),
};

describe('parseUserAuthData', () => {
  it('reads a request by public key', () => {
    assert.deepEqual(parseUserAuthData(signedData()), {
      sessionId: Buffer.alloc(32, 7),
      user: 'deploy+web-1',
      method: 'publickey',
      algorithm: ED25519_CERT,
      publicKey: CERTIFICATE,
      hostKey: undefined,
    });
  });

  it('reads a request that is bound to a host', () => {
    const { method, hostKey } = parseUserAuthData(signedData(HOSTBOUND));
    assert.equal(method, 'publickey-hostbound-v00@openssh.com');
    assert.deepEqual(hostKey, Buffer.from('the host key'));
  });

  it('reads what OpenSSH has signed', () => {
    const plain = parseUserAuthData(OPENSSH_PUBLICKEY.signedData);
    const bound = parseUserAuthData(OPENSSH_HOSTBOUND.signedData);
    for (const { user, algorithm, publicKey } of [plain, bound]) {
      assert.equal(user, 'root');
      assert.equal(algorithm, ED25519_CERT);
      assert.equal(parseSshCertificate(publicKey).keyId, 'spiffe://example.org/web');
    }
    assert.equal(plain.hostKey, undefined);
    assert.ok(bound.hostKey !== undefined && isSshCertificate(bound.hostKey));
    assert.equal(parseSshCertificate(bound.hostKey).type, 'host');
  });

  it('keeps nothing of the memory it was given', () => {
    const given = signedData(HOSTBOUND);
    const parsed = parseUserAuthData(given);
    given.fill(0);
    assert.deepEqual(parsed, parseUserAuthData(signedData(HOSTBOUND)));
  });

  const good = signedData();
  const sshsig = new SshWriter().raw(Buffer.from('SSHSIG')).string('file').string('').finish();
  const refused: Record<string, readonly [Buffer, RegExp]> = {
    nothing: [Buffer.alloc(0), /ends too early/],
    "a file's signature": [sshsig, /longer than 64 bytes/],
    'a session ID of 19 bytes': [
      signedData({ sessionId: Buffer.alloc(19) }),
      /session ID too short/,
    ],
    'a session ID of 65 bytes': [signedData({ sessionId: Buffer.alloc(65) }), /longer than 64/],
    'another message': [signedData({ number: 51 }), /not a request to log in/],
    'no user': [signedData({ user: '' }), /no user/],
    'a user that is no UTF-8': [signedData({ user: Buffer.of(0xff) }), /no UTF-8/],
    'a user with a line end': [signedData({ user: 'a\nb' }), /user: control characters/],
    'a user with a NUL': [signedData({ user: 'a\0' }), /user: control characters/],
    'a user of 1025 bytes': [signedData({ user: 'a'.repeat(1025) }), /longer than 1024 bytes/],
    'another service': [signedData({ service: 'ssh-userauth' }), /not for a connection/],
    'a password': [signedData({ method: 'password' }), /not by public key/],
    'a host as the client': [signedData({ method: 'hostbased' }), /not by public key/],
    'another version of host binding': [
      signedData({ ...HOSTBOUND, method: 'publickey-hostbound-v01@openssh.com' }),
      /not by public key/,
    ],
    'a mere question': [signedData({ hasSignature: 0 }), /not to be signed/],
    'a boolean of 2': [signedData({ hasSignature: 2 }), /neither 0 nor 1/],
    'an algorithm over two lines': [signedData({ algorithm: 'a\nb' }), /malformed name/],
    'a key over 64 KiB': [signedData({ publicKey: Buffer.alloc(65_537) }), /longer than 65536/],
    'a host key without its method': [
      signedData({ ...HOSTBOUND, method: 'publickey' }),
      /bytes after the last value/,
    ],
    'the method without its host key': [
      signedData({ method: 'publickey-hostbound-v00@openssh.com' }),
      /ends too early/,
    ],
    'bytes after': [signedData({ trailing: Buffer.of(0) }), /bytes after the last value/],
    'over its bound': [Buffer.alloc(200_000), /too long/],
  };
  for (const [what, [bytes, message]] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      assert.throws(() => parseUserAuthData(bytes), { code: 'SSH_INVALID', message });
    });
  }

  it('refuses what is cut short anywhere', () => {
    for (let length = 0; length < good.length; length += 1) {
      assert.throws(() => parseUserAuthData(good.subarray(0, length)), { code: 'SSH_INVALID' });
    }
  });
});

/** Signs a request in the way of `parts`, and verifies it by the certificate it names. */
function verified(parts: Parts, key: KeyObject, rsa?: 'rsa-sha2-256' | 'rsa-sha2-512'): boolean {
  const data = signedData(parts);
  const certificate = parseSshCertificate(parts.publicKey ?? CERTIFICATE);
  return verifyUserAuth(certificate, parseUserAuthData(data), data, signSsh(key, data, rsa));
}

describe('verifyUserAuth', () => {
  it('verifies the holder of the key', () => {
    assert.equal(verified({}, KEY), true);
    assert.equal(verified(HOSTBOUND, KEY), true);
  });

  it('verifies what OpenSSH was let in with', () => {
    for (const { signedData: data, signature } of [OPENSSH_PUBLICKEY, OPENSSH_HOSTBOUND]) {
      const request = parseUserAuthData(data);
      const certificate = parseSshCertificate(request.publicKey);
      assert.equal(verifyUserAuth(certificate, request, data, signature), true);
      const other = Buffer.from(data);
      other[10] = (other[10] ?? 0) ^ 1;
      assert.equal(verifyUserAuth(certificate, request, other, signature), false);
    }
  });

  it('verifies the holders of ECDSA keys', () => {
    for (const namedCurve of ['P-256', 'P-384', 'P-521']) {
      const key = generateKeyPairSync('ec', { namedCurve }).privateKey;
      const publicKey = handMadeSshCertificate({ key });
      const { algorithm } = parseSshCertificate(publicKey);
      assert.equal(verified({ publicKey, algorithm }, key), true, namedCurve);
    }
  });

  describe('of an RSA key', () => {
    const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const publicKey = handMadeSshCertificate({ key });
    const of = (name: string): Parts => ({ publicKey, algorithm: `${name}-cert-v01@openssh.com` });

    it('verifies either hash of SHA-2, if the algorithm names the same', () => {
      assert.equal(verified(of('rsa-sha2-256'), key, 'rsa-sha2-256'), true);
      assert.equal(verified(of('rsa-sha2-512'), key, 'rsa-sha2-512'), true);
      assert.equal(verified(of('rsa-sha2-256'), key, 'rsa-sha2-512'), false);
      assert.equal(verified(of('rsa-sha2-512'), key, 'rsa-sha2-256'), false);
    });

    it('refuses the algorithm that meant SHA-1, and those of other keys', () => {
      for (const name of ['ssh-rsa', 'ssh-ed25519', 'ecdsa-sha2-nistp256', '']) {
        assert.equal(verified(of(name), key), false, name);
      }
    });
  });

  const refused: Record<string, () => boolean> = {
    'another key': () => verified({}, newSshKey()),
    'the algorithm of a plain key': () => verified({ algorithm: 'ssh-ed25519' }, KEY),
    'the algorithm of another certificate': () =>
      verified({ algorithm: 'ecdsa-sha2-nistp256-cert-v01@openssh.com' }, KEY),
    'a suffix twice': () => verified({ algorithm: `${ED25519_CERT}-cert-v01@openssh.com` }, KEY),
    'a key of another type under the algorithm': () =>
      verified({}, generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey),
  };
  for (const [what, verify] of Object.entries(refused)) {
    it(`refuses ${what}`, () => assert.equal(verify(), false));
  }

  const certificate = parseSshCertificate(CERTIFICATE);

  it('refuses a request for another certificate of the same key', () => {
    const data = signedData({ publicKey: handMadeSshCertificate({ key: KEY }) });
    const request = parseUserAuthData(data);
    assert.equal(verifyUserAuth(certificate, request, data, signSsh(KEY, data)), false);
  });

  it('refuses a request for the plain key', () => {
    const data = signedData({ publicKey: encodePublicKey(KEY) });
    const request = parseUserAuthData(data);
    assert.equal(verifyUserAuth(certificate, request, data, signSsh(KEY, data)), false);
  });

  it('refuses a signature over another session, and what is no signature', () => {
    const data = signedData();
    const request = parseUserAuthData(data);
    const other = signSsh(KEY, signedData({ sessionId: Buffer.alloc(32, 8) }));
    for (const signature of [other, Buffer.alloc(0), Buffer.alloc(83), Buffer.from('hello')]) {
      assert.equal(verifyUserAuth(certificate, request, data, signature), false);
    }
  });
});
