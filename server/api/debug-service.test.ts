import assert from 'node:assert/strict';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Debug } from '../../proto/gen/spire/api/server/debug/v1/debug_pb.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { entryInit, TD } from '../../test/fixtures/registry-world.ts';
import { CALL, RunningServer } from '../../test/fixtures/running-server.ts';
import { bundleMessage } from '../registry/bundle-message.ts';

describe('debugService', () => {
  it('shows the chain up to the authority, and counts what the server knows', async () => {
    await using server = await RunningServer.start();
    const info = () => server.admin(Debug).getInfo({}, CALL);
    const before = await info();
    assert.deepEqual(
      before.svidChain.map(({ id, subject }) => [id?.trustDomain, id?.path, subject]),
      [
        [TD, '/spire/server', 'O=SPIRE,C=US'],
        [TD, '', before.svidChain[1]?.subject],
      ],
    );
    assert.match(before.svidChain[1]?.subject ?? '', /O=SPIFFE,C=US$/);
    assert.ok((before.svidChain[0]?.expiresAt ?? 0n) > BigInt(Math.floor(Date.now() / 1000)));
    assert.deepEqual(
      [before.agentsCount, before.entriesCount, before.federatedBundlesCount],
      [0, 0, 1],
    );
    await server.newAgent();
    await server.createEntry(entryInit({}));
    const foreign = await FakeAuthority.create(parseTrustDomain('partner.org'));
    const bundle = [bundleMessage(foreign.bundle.value)];
    await server.admin(Bundle).batchSetFederatedBundle({ bundle }, CALL);
    const after = await info();
    assert.deepEqual(
      [after.agentsCount, after.entriesCount, after.federatedBundlesCount],
      [1, 1, 2],
    );
  });
});
