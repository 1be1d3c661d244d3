import assert from 'node:assert/strict';
import { localhostCertificate } from '../../../../../test/fixtures/localhost-tls.ts';
import { trustedContext } from './trusted-context.ts';

describe('trustedContext', () => {
  it('is made once for a CA', () => {
    assert.equal(trustedContext(localhostCertificate), trustedContext(localhostCertificate));
  });

  it('trusts the public authorities in place of none for nobody', () => {
    for (const ca of ['', '\n', 'no certificate', localhostCertificate.slice(40)]) {
      assert.throws(() => trustedContext(ca), JSON.stringify(ca.slice(0, 20)));
    }
  });
});
