import assert from 'node:assert/strict';
import { parseTrustDomain, SpiffeId } from '../../identity/spiffe-id.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { agentSvid } from './attest-job.ts';

describe('agentSvid', () => {
  it('takes the SVID of an agent of the trust domain, and no other', async () => {
    const authority = await FakeAuthority.create(parseTrustDomain('example.org'));
    const bundle = authority.bundle.value;
    const issue = (id: string) => authority.issue(SpiffeId.parse(id));
    const agent = await issue('spiffe://example.org/spire/agent/oidc/ci/1');
    assert.equal(agentSvid(agent, bundle), agent);
    for (const id of ['spiffe://example.org/web', 'spiffe://example.org/spire/server'])
      assert.throws(() => agentSvid(bundleless(id), bundle), { code: 'ATTESTATION_DENIED' });
    const foreign = 'spiffe://other.org/spire/agent/oidc/ci/1';
    assert.throws(() => agentSvid(bundleless(foreign), bundle), { code: 'ATTESTATION_DENIED' });

    function bundleless(text: string) {
      return { ...agent, id: SpiffeId.parse(text) };
    }
  });
});
