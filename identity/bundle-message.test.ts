import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { handMadeCa, newKey } from '../test/fixtures/hand-made-certificate.ts';
import {
  type BundleMessage,
  bundleFromMessage,
  foreignBundleFromMessage,
} from './bundle-message.ts';
import { parseTrustDomain } from './spiffe-id.ts';

const td = parseTrustDomain('example.org');
const ca = handMadeCa();
const spki = () => createPublicKey(newKey()).export({ type: 'spki', format: 'der' });
const message = (more: Partial<BundleMessage> = {}): BundleMessage => ({
  trustDomain: 'example.org',
  x509Authorities: [{ asn1: ca.der, tainted: true }],
  jwtAuthorities: [],
  sequenceNumber: 7n,
  refreshHint: 60n,
  ...more,
});

describe('bundleFromMessage', () => {
  it('reads authorities, times and taints', () => {
    const keys = [0n, 1_800_000_000n].map((expiresAt, at) => ({
      ...{ keyId: `k${at}`, publicKey: spki(), expiresAt, tainted: at === 1 },
    }));
    const bundle = bundleFromMessage(message({ jwtAuthorities: keys }), td);
    assert.deepEqual(
      bundle.x509Authorities.map(({ der, tainted }) => [Buffer.from(der), tainted]),
      [[Buffer.from(ca.der), true]],
    );
    assert.deepEqual(
      bundle.jwtAuthorities.map(({ keyId, expiresAt, tainted }) => [keyId, expiresAt, tainted]),
      [
        ['k0', undefined, false],
        ['k1', new Date(1_800_000_000_000), true],
      ],
    );
    assert.deepEqual([bundle.sequenceNumber, bundle.refreshHintSeconds], [7n, 60]);
  });

  it('refuses one without X.509 authority, which only a foreign trust domain may tell', () => {
    const empty = message({ x509Authorities: [] });
    assert.throws(() => bundleFromMessage(empty, td), { code: 'PROTOCOL_VIOLATION' });
    assert.deepEqual(foreignBundleFromMessage(empty, td).x509Authorities, []);
  });

  it('refuses another trust domain and what is malformed', () => {
    const key = { keyId: 'k', publicKey: Buffer.of(1), expiresAt: 0n, tainted: false };
    for (const wrong of [
      message({ trustDomain: 'other.org' }),
      message({ x509Authorities: [{ asn1: Buffer.of(1, 2), tainted: false }] }),
      message({ jwtAuthorities: [key] }),
    ])
      assert.throws(() => foreignBundleFromMessage(wrong, td), { code: 'PROTOCOL_VIOLATION' });
  });
});
