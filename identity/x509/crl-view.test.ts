import assert from 'node:assert/strict';
import { ManualClock, START } from '../../test/fixtures/registry-world.ts';
import { localSigner } from '../signer.ts';
import { parseTrustDomain } from '../spiffe-id.ts';
import { createSelfSignedCa } from './ca.ts';
import { parseCertificate } from './certificate.ts';
import { CRL_REASON, type Crl, type CrlInit, type CrlReason, parseCrl, signCrl } from './crl.ts';
import { CrlView } from './crl-view.ts';

const HOUR_MS = 3_600_000;

describe('CrlView', () => {
  let clock: ManualClock;
  let bad: bigint[];
  let view: CrlView;
  beforeEach(() => {
    clock = new ManualClock();
    bad = [];
    view = new CrlView({ clock, onBad: ({ number }) => void bad.push(number) });
  });

  async function newCa() {
    const ca = await createSelfSignedCa({
      ...{ trustDomain: parseTrustDomain('example.org'), keyType: 'ec-p256', now: START },
      notAfter: new Date('2046-01-01T00:00:00Z'),
    });
    const certificate = parseCertificate(ca.certificate);
    const list = async (
      number: bigint,
      serials: readonly string[] = [],
      issuer: CrlInit['issuer'] = certificate,
      reason: CrlReason = CRL_REASON.privilegeWithdrawn,
    ): Promise<Crl> => {
      const revoked = serials.map((serial) => ({ serial, revokedAt: START, reason }));
      const times = { thisUpdate: START, nextUpdate: new Date(START.getTime() + HOUR_MS) };
      return parseCrl(
        await signCrl({ number, issuer, revoked, ...times }, localSigner(ca.privateKey)),
      );
    };
    return { certificate, list };
  }

  it('revokes nothing of an authority that it has seen no list of', async () => {
    const [ca, other] = [await newCa(), await newCa()];
    view.offer([await other.list(1n, ['01'])]);
    assert.equal(view.status('01', ca.certificate), 'good');
    assert.equal(view.status('01', other.certificate), 'revoked');
  });

  it('goes by the newest list that it has seen, whatever is offered after it', async () => {
    const ca = await newCa();
    view.offer([await ca.list(2n, ['01'])]);
    assert.equal(view.status('01', ca.certificate), 'revoked');
    view.offer([await ca.list(1n)]);
    assert.equal(view.status('01', ca.certificate), 'revoked');
    view.offer([]);
    assert.equal(view.status('01', ca.certificate), 'revoked');
    view.offer([await ca.list(3n, ['02'])]);
    assert.equal(view.status('01', ca.certificate), 'good');
    assert.equal(view.status('02', ca.certificate), 'revoked');
  });

  it('tells what is held back from what is revoked', async () => {
    const ca = await newCa();
    const { certificate } = ca;
    view.offer([await ca.list(1n, ['01'], certificate, CRL_REASON.certificateHold)]);
    assert.equal(view.status('01', certificate), 'held');
    clock.advance(2 * HOUR_MS + 1);
    assert.equal(view.status('01', certificate), 'outdated');
  });

  it('relies on a list for twice its time, and on the authority no longer after that', async () => {
    const ca = await newCa();
    view.offer([await ca.list(1n, ['01'])]);
    clock.advance(2 * HOUR_MS);
    assert.equal(view.status('02', ca.certificate), 'good');
    clock.advance(1);
    assert.equal(view.status('02', ca.certificate), 'outdated');
    assert.equal(view.status('01', ca.certificate), 'revoked');
  });

  it('ignores a list that another key has signed in the name of the authority, and says so', async () => {
    const [ca, impostor] = [await newCa(), await newCa()];
    view.offer([await impostor.list(9n, ['01'], ca.certificate), await ca.list(1n, ['02'])]);
    assert.equal(view.status('01', ca.certificate), 'good');
    assert.equal(view.status('02', ca.certificate), 'revoked');
    assert.deepEqual(bad, [9n]);
  });
});
