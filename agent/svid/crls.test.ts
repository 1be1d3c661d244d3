import assert from 'node:assert/strict';
import { localSigner } from '../../identity/signer.ts';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { createSelfSignedCa } from '../../identity/x509/ca.ts';
import { parseCertificate } from '../../identity/x509/certificate.ts';
import { CRL_REASON, MAXIMUM_CRL_BYTES, signCrl } from '../../identity/x509/crl.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import { createLogger } from '../../runtime/log.ts';
import type { ServerLink } from '../server-link.ts';
import { ServerCrls } from './crls.ts';

const { signal } = new AbortController();
const NOW = new Date('2026-11-25T10:00:00Z');
const LATER = new Date('2026-11-25T11:00:00Z');

describe('ServerCrls', () => {
  let answer: () => readonly Uint8Array[];
  let crls: ServerCrls;
  beforeEach(() => {
    const link = { call: async () => ({ crls: answer() }) } as unknown as ServerLink;
    crls = new ServerCrls({ link, log: createLogger({ process: 'agent', level: 'silent' }) });
  });
  const told = async () => (await crls.sync(signal))?.crls;

  it('tells the lists when they are others than before', async () => {
    answer = () => [Buffer.from('a')];
    assert.deepEqual(await told(), [Buffer.from('a')]);
    assert.equal(await told(), undefined);
    answer = () => [Buffer.from('b')];
    assert.deepEqual(await told(), [Buffer.from('b')]);
    answer = () => [];
    assert.deepEqual(await told(), []);
  });

  it('tells which serials are revoked for good', async () => {
    const ca = await createSelfSignedCa({
      ...{ trustDomain: parseTrustDomain('example.org'), keyType: 'ec-p256' },
      ...{ now: NOW, notAfter: LATER },
    });
    const revoked = [
      { serial: '01', revokedAt: NOW, reason: CRL_REASON.superseded },
      { serial: '02', revokedAt: NOW, reason: CRL_REASON.certificateHold },
    ];
    const issuer = parseCertificate(ca.certificate);
    const init = { issuer, number: 1n, thisUpdate: NOW, nextUpdate: LATER, revoked };
    const der = await signCrl(init, localSigner(ca.privateKey));
    answer = () => [Buffer.from('no list'), der];
    assert.deepEqual((await crls.sync(signal))?.revoked, new Set(['01']));
  });

  it('has none from a server that knows of none, and none that are too long together', async () => {
    answer = () => {
      throw new RpcError('UNIMPLEMENTED', 'unknown service');
    };
    assert.equal(await told(), undefined);
    answer = () => [Buffer.alloc(MAXIMUM_CRL_BYTES), Buffer.alloc(1)];
    assert.equal(await told(), undefined);
  });

  it('fails with what else the call fails with', async () => {
    answer = () => {
      throw new RpcError('UNAVAILABLE', 'away');
    };
    await assert.rejects(crls.sync(signal), { status: 'UNAVAILABLE' });
  });
});
