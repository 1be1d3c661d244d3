import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { parseSshCertificate } from '../../identity/ssh/certificate.ts';
import { encodePublicKey } from '../../identity/ssh/public-key.ts';
import { signSsh } from '../../identity/ssh/signature.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { SshAuthorities } from '../../test/fakes/ssh-authorities.ts';
import { fakeSession, loginData } from '../../test/fixtures/ssh-agent-client.ts';
import { requireLogin, verifySessionBind } from './may-sign.ts';

const clock = new FakeClock();
const authorities = new SshAuthorities(clock);
const certify = (key: KeyObject) => authorities.issueHost(['web-1'], key);
const buffers = ({ hostKey, sessionId, signature }: ReturnType<typeof fakeSession>) => ({
  type: 'session-bind' as const,
  hostKey: Buffer.from(hostKey),
  sessionId: Buffer.from(sessionId),
  signature: Buffer.from(signature),
  forwarding: false,
});

describe('verifySessionBind', () => {
  for (const [what, key] of [
    ['Ed25519', generateKeyPairSync('ed25519').privateKey],
    ['ECDSA', generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey],
    ['RSA', generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey],
  ] as const) {
    it(`takes a session that a host signed with its ${what} key, plain or certified`, () => {
      const sessionId = randomBytes(32);
      const signature = signSsh(key, sessionId);
      for (const hostKey of [encodePublicKey(key), certify(key)]) {
        const request = { ...buffers(fakeSession()), hostKey, sessionId, signature };
        const { signature: _, type: __, ...binding } = request;
        assert.deepEqual(verifySessionBind(request), binding);
      }
    });
  }

  it('refuses a signature of another key, over another session, or none', () => {
    const session = buffers(fakeSession(certify));
    const other = buffers(fakeSession(certify));
    for (const change of [
      { hostKey: other.hostKey },
      { sessionId: other.sessionId },
      { signature: other.signature },
      { signature: Buffer.alloc(0) },
    ]) {
      assert.throws(() => verifySessionBind({ ...session, ...change }), {
        code: 'PERMISSION_DENIED',
      });
    }
  });

  it('refuses a host key that is malformed', () => {
    const session = buffers(fakeSession(certify));
    const tampered = Buffer.from(session.hostKey);
    tampered[200] = (tampered[200] ?? 0) ^ 1;
    for (const hostKey of [Buffer.alloc(0), Buffer.from('ssh-ed25519'), tampered]) {
      assert.throws(() => verifySessionBind({ ...session, hostKey }), { code: 'SSH_INVALID' });
    }
  });
});

describe('requireLogin', () => {
  const { privateKey } = generateKeyPairSync('ed25519');
  const blob = authorities.issueUser('spiffe://example.org/deploy', privateKey);
  const signed = {
    certificate: parseSshCertificate(blob),
    hostAuthorities: authorities.keys.host,
  };
  const session = buffers(fakeSession(certify));
  const request = (data: Buffer, publicKey = blob) => ({
    ...{ type: 'sign' as const, publicKey, data },
    rsa: undefined,
  });
  const check = (data: Buffer, ground: object = {}, publicKey = blob) =>
    requireLogin(request(data, publicKey), signed, {
      binding: session,
      now: clock.now(),
      ...ground,
    });
  const bound = (certifyOther?: (key: KeyObject) => Uint8Array) => ({
    binding: { ...session, hostKey: buffers(fakeSession(certifyOther)).hostKey },
  });
  const login = loginData(session, blob);

  it('lets a login be signed to the host that the connection is bound to', () => {
    check(login);
    check(loginData(session, blob, { hostKey: session.hostKey }));
  });

  const refusals: readonly [string, () => void, RegExp][] = [
    ['without a binding', () => check(login, { binding: undefined }), /not bound/],
    [
      'when the agent is forwarded',
      () => check(login, { binding: { ...session, forwarding: true } }),
      /forwarded/,
    ],
    [
      'for another session',
      () => check(loginData({ sessionId: randomBytes(32) }, blob)),
      /another connection/,
    ],
    [
      'that names another host than the session has',
      () => check(loginData(session, blob, { hostKey: encodePublicKey(privateKey) })),
      /another host/,
    ],
    ['to a plain host key', () => check(login, bound()), /plain key/],
    [
      'to a host that another authority certified',
      () =>
        check(
          login,
          bound((key) => new SshAuthorities(clock).issueHost(['web-1'], key)),
        ),
      /authority not trusted/,
    ],
    [
      'to a host with a certificate of a user',
      () =>
        check(
          login,
          bound((key) => authorities.issueUser('web-1', key, { authority: authorities.host })),
        ),
      /of a user/,
    ],
    [
      'to a host whose certificate has ended',
      () =>
        check(
          login,
          bound((key) => authorities.issueHost(['web-1'], key, { validBefore: clock.now() })),
        ),
      /expired/,
    ],
    ['at a time that is none', () => check(login, { now: new Date(Number.NaN) }), /has ended/],
    [
      'once its certificate has ended',
      () => check(login, { now: signed.certificate.validBefore }),
      /has ended/,
    ],
    [
      'with the plain key',
      () => check(loginData(session, encodePublicKey(privateKey), { algorithm: 'ssh-ed25519' })),
      /not a login with/,
    ],
    [
      'with the plain key’s algorithm',
      () => check(loginData(session, blob, { algorithm: 'ssh-ed25519' })),
      /not a login with/,
    ],
    [
      'with a certificate that is not asked for',
      () => check(login, {}, authorities.issueUser('spiffe://example.org/x', privateKey)),
      /not a login with/,
    ],
    [
      'that is none',
      () => check(Buffer.concat([Buffer.from('SSHSIG'), randomBytes(64)])),
      /SSH user authentication: string longer/,
    ],
  ];
  for (const [what, act, message] of refusals) {
    it(`refuses a login ${what}`, () => {
      assert.throws(act, (error: Error & { code?: string }) => {
        assert.match(String(error.code), /^(PERMISSION_DENIED|SSH_INVALID)$/);
        assert.match(error.message, message);
        return true;
      });
    });
  }
});
