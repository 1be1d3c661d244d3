import assert from 'node:assert/strict';
import { localSigner } from '../identity/signer.ts';
import { parseTrustDomain } from '../identity/spiffe-id.ts';
import { createSelfSignedCa } from '../identity/x509/ca.ts';
import { parseCertificate } from '../identity/x509/certificate.ts';
import { CRL_REASON, type CrlReason, signCrl } from '../identity/x509/crl.ts';
import { createLogger } from '../runtime/log.ts';
import { Watched } from '../runtime/watched.ts';
import { ManualClock, START } from '../test/fixtures/registry-world.ts';
import { FollowedCrls } from './follow-crls.ts';

const LATER = new Date(START.getTime() + 3_600_000);
const log = createLogger({ process: 'gateway', level: 'silent' });

describe('FollowedCrls', () => {
  it('goes by what the agent tells last, and passes what is held back alone', async () => {
    const ca = await createSelfSignedCa({
      ...{ trustDomain: parseTrustDomain('example.org'), keyType: 'ec-p256' },
      ...{ now: START, notAfter: new Date('2046-01-01T00:00:00Z') },
    });
    const issuer = parseCertificate(ca.certificate);
    const list = (number: bigint, reason: CrlReason) => {
      const revoked = [{ serial: '01', revokedAt: START, reason }];
      const times = { thisUpdate: START, nextUpdate: LATER };
      return signCrl({ issuer, number, revoked, ...times }, localSigner(ca.privateKey));
    };
    const crls = new Watched<readonly Uint8Array[]>([Buffer.from('no list')]);
    await using followed = new FollowedCrls({ crls, clock: new ManualClock(), log });
    assert.equal(followed.status('01', issuer), 'good');
    const tell = async (der: Uint8Array) => {
      crls.set([der]);
      await new Promise((resolve) => setImmediate(resolve));
    };
    await tell(await list(1n, CRL_REASON.certificateHold));
    assert.equal(followed.status('01', issuer), 'good');
    await tell(await list(2n, CRL_REASON.cessationOfOperation));
    assert.equal(followed.status('01', issuer), 'revoked');
    assert.equal(followed.status('02', issuer), 'good');
  });
});
