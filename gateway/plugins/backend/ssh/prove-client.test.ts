import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { parseTrustDomain } from '../../../../identity/spiffe-id.ts';
import {
  type SshCertificateInit,
  signSshCertificate,
} from '../../../../identity/ssh/certificate.ts';
import { encodePublicKey } from '../../../../identity/ssh/public-key.ts';
import { signSsh } from '../../../../identity/ssh/signature.ts';
import { SshWriter } from '../../../../identity/ssh/wire.ts';
import { NO_CERTIFICATE, proveClient } from './prove-client.ts';
import type { PublicKeyAttempt } from './ssh2-server.ts';

const WEB = 'spiffe://example.org/web';
const NOW = new Date('2026-03-01T12:00:00Z');
const MINUTE_MS = 60_000;
const ALGORITHM = 'ssh-ed25519-cert-v01@openssh.com';

const newKey = () => generateKeyPairSync('ed25519').privateKey;

describe('proveClient', () => {
  const authority = newKey();
  const key = newKey();
  const sessionId = randomBytes(32);
  const rule = {
    authorities: [encodePublicKey(newKey()), encodePublicKey(authority)],
    trustDomain: parseTrustDomain('example.org'),
    ip: '192.0.2.7',
    now: NOW,
  };

  function certificateOf(change: Partial<SshCertificateInit> = {}, ca = authority): Buffer {
    return signSshCertificate(
      {
        type: 'user',
        publicKey: encodePublicKey(key),
        serial: 4711n,
        keyId: WEB,
        principals: [WEB],
        validAfter: new Date(NOW.getTime() - MINUTE_MS),
        validBefore: new Date(NOW.getTime() + MINUTE_MS),
        ...change,
      },
      ca,
    );
  }
  function dataOf(
    certificate: Uint8Array,
    { user = 'deploy', algorithm = ALGORITHM } = {},
  ): Buffer {
    return new SshWriter()
      .string(sessionId)
      .u8(50)
      .string(user)
      .string('ssh-connection')
      .string('publickey')
      .boolean(true)
      .string(algorithm)
      .string(certificate)
      .finish();
  }
  function signed(certificate: Uint8Array, by: KeyObject = key): PublicKeyAttempt {
    const signedData = dataOf(certificate);
    const proof = { signedData, signature: signSsh(by, signedData) };
    return { user: 'deploy', algorithm: ALGORITHM, publicKey: certificate, proof };
  }
  const asked = (publicKey: Uint8Array): PublicKeyAttempt => ({
    user: 'deploy',
    algorithm: ALGORITHM,
    publicKey,
    proof: undefined,
  });
  const refuses = (attempt: PublicKeyAttempt, message: RegExp) =>
    assert.throws(() => proveClient(attempt, rule), { code: 'SSH_INVALID', message });

  it('proves nobody who only asks', () => {
    assert.equal(proveClient(asked(certificateOf()), rule), undefined);
  });

  it('tells who has signed, with the proof as it came', () => {
    const certificate = certificateOf();
    const attempt = signed(certificate);
    const peer = proveClient(attempt, rule);
    assert.equal(String(peer?.id), WEB);
    assert.equal(peer?.serial, '4711');
    assert.deepEqual(peer?.notAfter, new Date(NOW.getTime() + MINUTE_MS));
    assert.deepEqual(peer?.proof, { case: 'ssh', certificate, ...attempt.proof });
  });

  it('takes a source address that is the client’s', () => {
    const certificate = certificateOf({ criticalOptions: { 'source-address': '192.0.2.0/24' } });
    assert.equal(String(proveClient(signed(certificate), rule)?.id), WEB);
  });

  for (const [what, change, message] of [
    ['a certificate of a host', { type: 'host' }, /of a host/],
    ['one that has expired', { validBefore: NOW }, /expired/],
    ['one that is not valid yet', { validAfter: new Date(NOW.getTime() + 1000) }, /not valid yet/],
    ['an unknown critical option', { criticalOptions: { 'force-command': 'id' } }, /force-command/],
    ['verify-required', { criticalOptions: { 'verify-required': '' } }, /verify-required/],
    [
      'another source address',
      { criticalOptions: { 'source-address': '192.0.2.8/32' } },
      /source address/,
    ],
    ['a principal beside its key ID', { principals: [WEB, 'root'] }, /only principal/],
    ['a principal that is not its key ID', { principals: ['root'] }, /only principal/],
    ['a name in place of a SPIFFE ID', { keyId: 'root', principals: ['root'] }, /no SPIFFE ID/],
    [
      'an identity of another trust domain',
      { keyId: 'spiffe://other.org/web', principals: ['spiffe://other.org/web'] },
      /another trust domain/,
    ],
    [
      'a reserved identity',
      {
        keyId: 'spiffe://example.org/writ/gateway/g',
        principals: ['spiffe://example.org/writ/gateway/g'],
      },
      /not of a workload/,
    ],
  ] as const) {
    it(`refuses ${what}, asked or signed`, () => {
      const certificate = certificateOf(change);
      refuses(asked(certificate), message);
      refuses(signed(certificate), message);
    });
  }

  it('refuses what another authority signed', () => {
    refuses(signed(certificateOf({}, newKey())), /authority not trusted/);
  });

  it('believes nobody before there are authorities', () => {
    assert.throws(() => proveClient(signed(certificateOf()), { ...rule, authorities: [] }), {
      code: 'SSH_INVALID',
    });
  });

  it('refuses every tampered byte', () => {
    const certificate = certificateOf();
    for (let at = 0; at < certificate.length; at += 7) {
      const tampered = Buffer.from(certificate);
      tampered[at] = (tampered[at] ?? 0) ^ 1;
      refuses(asked(tampered), /./);
    }
  });

  it('refuses a key without a certificate, by that reason', () => {
    refuses(asked(encodePublicKey(key)), new RegExp(`^${NO_CERTIFICATE}$`));
  });

  it('refuses the signature of another key', () => {
    refuses(signed(certificateOf(), newKey()), /signature of the login/);
  });

  for (const [what, other] of [
    ['another user', { user: 'root' }],
    ['another algorithm', { algorithm: 'rsa-sha2-512-cert-v01@openssh.com' }],
  ] as const) {
    it(`refuses a signature over ${what}`, () => {
      const certificate = certificateOf();
      const signedData = dataOf(certificate, other);
      const proof = { signedData, signature: signSsh(key, signedData) };
      refuses({ ...asked(certificate), proof }, /signature of the login/);
      refuses({ ...asked(certificate), ...other, proof: signed(certificate).proof }, /signature/);
    });
  }

  it('refuses an algorithm that is not the certificate’s, when it is signed', () => {
    const certificate = certificateOf();
    const algorithm = 'ecdsa-sha2-nistp256-cert-v01@openssh.com';
    const signedData = dataOf(certificate, { algorithm });
    const proof = { signedData, signature: signSsh(key, signedData) };
    refuses({ ...asked(certificate), algorithm, proof }, /signature of the login/);
  });
});
