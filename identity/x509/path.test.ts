import assert from 'node:assert/strict';
import {
  handMadeCa,
  handMadeCertificate,
  newKey,
  type Parts,
} from '../../test/fixtures/hand-made-certificate.ts';
import { type Certificate, parseCertificate } from './certificate.ts';
import { der, TAG } from './der.ts';
import { derExtension, OID } from './extensions.ts';
import { findPath } from './path.ts';

describe('findPath', () => {
  const root = handMadeCa({ name: 'Nodes' });
  const between = handMadeCa({ name: 'Between', issuer: root });
  const leafOf = (parts: Parts) => handMadeCertificate({ uris: [], name: 'node', ...parts });
  const read = ({ der }: { readonly der: Uint8Array }) => parseCertificate(der);
  const path = (
    leaf: Certificate,
    intermediates: readonly Certificate[] = [],
    roots: readonly Certificate[] = [read(root)],
  ) => findPath(leaf, { intermediates, roots, now: new Date() });
  const fails = (reason: RegExp, ...args: Parameters<typeof path>) =>
    assert.throws(
      () => path(...args),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'ATTESTATION_DENIED');
        assert.match(String(error.cause), reason);
        return true;
      },
    );
  const NO_AUTHORITY = /no configured authority/;

  it('leads from the leaf to the root, in whatever order the intermediates came', () => {
    const lower = handMadeCa({ name: 'Lower', issuer: between });
    const leaf = read(leafOf({ issuer: lower }));
    for (const sent of [
      [lower, between],
      [between, lower, root],
    ]) {
      const found = path(leaf, sent.map(read)).map(({ raw }) => Buffer.from(raw));
      assert.deepEqual(found, [Buffer.from(leaf.raw), lower.der, between.der, root.der]);
    }
  });

  it('tries the other of two intermediates with one name and key', () => {
    const stranger = handMadeCa({ name: 'Stranger' });
    const astray = handMadeCa({ name: 'Between', key: between.key, issuer: stranger });
    const leaf = read(leafOf({ issuer: between }));
    for (const sent of [
      [astray, between],
      [between, astray],
    ])
      assert.equal(path(leaf, sent.map(read)).length, 3);
  });

  it('ends where intermediates issue each other', () => {
    const [keyA, keyB] = [newKey(), newKey()];
    const a = handMadeCa({
      name: 'A',
      key: keyA,
      issuer: handMadeCa({ name: 'B', key: keyB }),
    });
    const b = handMadeCa({ name: 'B', key: keyB, issuer: a });
    fails(NO_AUTHORITY, read(leafOf({ issuer: b })), [a, b, a, b].map(read));
  });

  it('takes no certificate of an authority that is not configured, whatever its name', () => {
    const namesake = handMadeCa({ name: 'Nodes' });
    fails(NO_AUTHORITY, read(leafOf({ issuer: namesake })));
    fails(NO_AUTHORITY, read(leafOf({ issuer: namesake })), [read(namesake)]);
    fails(NO_AUTHORITY, read(leafOf({ issuer: between })));
    fails(NO_AUTHORITY, read(leafOf({ issuer: root })), [], []);
  });

  const HOUR_MS = 3_600_000;
  const past = {
    notBefore: new Date(Date.now() - 2 * HOUR_MS),
    notAfter: new Date(Date.now() - HOUR_MS),
  };
  for (const [what, parts] of [
    ['is no CA', { ca: false }],
    ['may not sign certificates', { keyUsage: 0x80 }],
    ['has expired', past],
    ['is not valid yet', { notBefore: new Date(Date.now() + HOUR_MS / 2) }],
    ['allows no authority between', { pathLength: 0 }],
    [
      'constrains names',
      { moreExtensions: [derExtension(OID.nameConstraints, false, der(TAG.sequence))] },
    ],
  ] as const)
    it(`goes over no authority that ${what}`, () => {
      const upper = handMadeCa({ name: 'Upper', issuer: root, ...parts });
      const lower = handMadeCa({ name: 'Lower', issuer: upper });
      fails(NO_AUTHORITY, read(leafOf({ issuer: lower })), [upper, lower].map(read));
    });

  it('refuses a leaf that has expired, or whose critical extension nobody understands', () => {
    fails(/has expired/, read(leafOf({ issuer: root, ...past })));
    const odd = derExtension('1.2.3.4', true, der(TAG.null));
    fails(/not understood/, read(leafOf({ issuer: root, moreExtensions: [odd] })));
  });
});
