import assert from 'node:assert/strict';
import { bundlePin } from '../../identity/bundle.ts';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { systemClock } from '../../runtime/clock.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { FakeSpireServer } from '../../test/fakes/spire-server.ts';
import type { NodeAttestor } from '../plugins/node-attestor/node-attestor.ts';
import { attest } from './attest.ts';
import type { FirstTrust } from './first-trust.ts';

const trustDomain = parseTrustDomain('example.org');

describe('attest', () => {
  let authority: FakeAuthority;
  let server: FakeSpireServer;
  beforeEach(async () => {
    authority = await FakeAuthority.create(trustDomain);
    server = await FakeSpireServer.start({ authority });
  });
  afterEach(() => server[Symbol.asyncDispose]());

  const attestor: NodeAttestor = {
    type: 'join_token',
    canReattest: false,
    evidence: async () => Buffer.from([...server.joinTokens][0] ?? ''),
    answer: () => assert.fail('no challenge is due'),
  };
  const attestUnder = (trust: FirstTrust) =>
    attest({
      ...{ server: server.address, trustDomain, trust, attestor, clock: systemClock },
      signal: AbortSignal.timeout(5000),
    });
  const rootsOf = ({ bundle }: FakeAuthority) => bundle.value.x509Authorities.map(({ der }) => der);

  it('takes a server under given roots without asking it for any first', async () => {
    const stranger = await FakeAuthority.create(trustDomain);
    const roots = [...rootsOf(stranger), ...rootsOf(authority)];
    const { svid, bundle } = await attestUnder({ kind: 'roots', roots });
    assert.equal(svid.id.path, '/spire/agent/join_token/jt-1');
    assert.deepEqual(
      bundle.x509Authorities.map(({ der }) => der),
      rootsOf(authority),
    );
    assert.equal(server.calls[0], 'AttestAgent');
  });

  it('takes whoever answers if it is told to', async () => {
    assert.ok(await attestUnder({ kind: 'first-use' }));
  });

  it('shows no evidence to a server under other roots or pins', async () => {
    const stranger = await FakeAuthority.create(trustDomain);
    await assert.rejects(attestUnder({ kind: 'roots', roots: rootsOf(stranger) }), {
      status: 'UNAVAILABLE',
    });
    const pins = [bundlePin(stranger.bundle.value)];
    await assert.rejects(attestUnder({ kind: 'pins', pins }), { code: 'ATTESTATION_DENIED' });
    assert.ok(!server.calls.includes('AttestAgent'));
  });
});
