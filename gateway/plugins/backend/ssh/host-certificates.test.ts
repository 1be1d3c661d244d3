import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { parseSshCertificate } from '../../../../identity/ssh/certificate.ts';
import { encodePublicKey } from '../../../../identity/ssh/public-key.ts';
import { createLogger } from '../../../../runtime/log.ts';
import { FakeClock } from '../../../../test/fakes/fake-clock.ts';
import { type CertificateChange, SshAuthorities } from '../../../../test/fakes/ssh-authorities.ts';
import { HostCertificates } from './host-certificates.ts';

const HOUR_MS = 3_600_000;

describe('HostCertificates', () => {
  let clock: FakeClock;
  let asked: string[];
  let isDown: boolean;
  let change: (key: Uint8Array) => CertificateChange;
  let certificates: HostCertificates;
  const key = generateKeyPairSync('ed25519').privateKey;
  beforeEach(() => {
    clock = new FakeClock();
    asked = [];
    isDown = false;
    change = () => ({});
    const authorities = new SshAuthorities(clock);
    const api = {
      async signSshHostCertificate({
        publicKey,
        backend,
      }: {
        publicKey: Uint8Array;
        backend: string;
      }) {
        asked.push(backend);
        if (isDown) throw new Error('no answer');
        const principals = backend === '' ? ['gw.example.org'] : [backend];
        const certificate = authorities.issueHost(principals, publicKey, change(publicKey));
        return { certificate };
      },
    };
    certificates = new HostCertificates({
      ...{ key, clock, signal: new AbortController().signal },
      api: () => api,
      log: createLogger({ process: 'gateway', level: 'silent' }),
    });
  });

  const principalsOf = async (certificate: Promise<Uint8Array>) =>
    parseSshCertificate(await certificate).principals;
  const later = (milliseconds: number) => clock.jump(milliseconds);
  const settled = () => new Promise((resolve) => setImmediate(resolve));

  it('has one for itself and one for each backend, asked for once', async () => {
    assert.deepEqual(await principalsOf(certificates.own()), ['gw.example.org']);
    assert.deepEqual(await principalsOf(certificates.of('web-1')), ['web-1']);
    await certificates.own();
    await certificates.of('web-1');
    assert.deepEqual(asked, ['', 'web-1']);
    const { publicKey } = parseSshCertificate(await certificates.own());
    assert.deepEqual(publicKey, encodePublicKey(key));
  });

  it('asks once for all who come at the same time', async () => {
    await Promise.all([certificates.own(), certificates.own(), certificates.own()]);
    assert.deepEqual(asked, ['']);
  });

  it('renews at half of its life, and goes on with the old one meanwhile', async () => {
    const first = await certificates.own();
    later(11 * HOUR_MS);
    await certificates.own();
    assert.equal(asked.length, 1);
    later(2 * HOUR_MS);
    assert.equal(await certificates.own(), first);
    await settled();
    assert.equal(asked.length, 2);
    assert.notEqual(await certificates.own(), first);
  });

  it('keeps the old one while the server does not answer, and asks again after a pause', async () => {
    const first = await certificates.own();
    later(13 * HOUR_MS);
    isDown = true;
    for (let n = 0; n < 5; n += 1) {
      assert.equal(await certificates.own(), first);
      await settled();
    }
    assert.equal(asked.length, 2);
    isDown = false;
    await clock.advance(11_000);
    await certificates.own();
    await settled();
    assert.equal(asked.length, 3);
    assert.notEqual(await certificates.own(), first);
  });

  it('shows none that has expired', async () => {
    await certificates.own();
    later(24 * HOUR_MS - 30_000);
    isDown = true;
    await assert.rejects(certificates.own(), { code: 'UNAVAILABLE' });
  });

  for (const [what, wrong] of [
    ['of a user', (): CertificateChange => ({ type: 'user' })],
    [
      'over another key',
      (): CertificateChange => ({
        publicKey: encodePublicKey(generateKeyPairSync('ed25519').privateKey),
      }),
    ],
  ] as const) {
    it(`takes no certificate ${what}`, async () => {
      change = wrong;
      await assert.rejects(certificates.own(), { code: 'UNAVAILABLE' });
    });
  }
});
