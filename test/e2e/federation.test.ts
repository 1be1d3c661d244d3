import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import * as v from 'valibot';
import { agentConfigSchema } from '../../agent/config.ts';
import { runAgent } from '../../agent/main.ts';
import { bundleToJwks, splitX509Der } from '../../identity/bundle.ts';
import { parseTrustDomain, SpiffeId } from '../../identity/spiffe-id.ts';
import { svidPem } from '../../identity/x509-svid.ts';
import { SpiffeWorkloadAPI } from '../../proto/gen/spiffe/workload/workload_pb.ts';
import {
  Bundle as BundleRpc,
  BatchDeleteFederatedBundleRequest_Mode as Mode,
} from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { TrustDomain } from '../../proto/gen/spire/api/server/trustdomain/v1/trustdomain_pb.ts';
import { JoinTokenService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { RpcChannel } from '../../runtime/grpc-client.ts';
import { createLogger } from '../../runtime/log.ts';
import { bundleMessage } from '../../server/registry/bundle-message.ts';
import { FakeAuthority } from '../fakes/fake-authority.ts';
import { entryInit } from '../fixtures/registry-world.ts';
import { CALL, RunningServer, temporaryDir } from '../fixtures/running-server.ts';

const partner = parseTrustDomain('partner.org');
const endpointId = SpiffeId.fromSegments(partner, 'spire', 'server');
const KEY = `spiffe://${partner}`;

describe('federation from a foreign endpoint to a workload', function () {
  this.timeout(30_000);

  it('brings the bundle to the workload, each change of it, and its end', async () => {
    const authority = await FakeAuthority.create(partner);
    const { certificates: cert, key } = svidPem(await authority.issue(endpointId));
    const endpoint = createServer({ cert, key }, (_request, response) =>
      response.end(bundleToJwks(authority.bundle.value, 'all')),
    );
    await new Promise<void>((resolve) => endpoint.listen(0, '127.0.0.1', resolve));
    const address = endpoint.address();
    assert.ok(address !== null && typeof address === 'object');

    using dir = temporaryDir();
    await using server = await RunningServer.start();
    const created = await server.admin(TrustDomain).batchCreateFederationRelationship(
      {
        federationRelationships: [
          {
            trustDomain: partner,
            bundleEndpointUrl: `https://127.0.0.1:${address.port}`,
            bundleEndpointProfile: {
              case: 'httpsSpiffe',
              value: { endpointSpiffeId: String(endpointId) },
            },
            trustDomainBundle: bundleMessage(authority.bundle.value),
          },
        ],
      },
      CALL,
    );
    assert.equal(created.results[0]?.status?.code, 0);

    const alias = 'spiffe://example.org/node';
    const { joinString } = await server
      .admin(JoinTokenService)
      .createJoinToken({ ttlSeconds: 60, agentId: alias }, CALL);
    await server.createEntry(
      entryInit({
        path: '/web',
        parent: '/node',
        selectors: [`unix:uid:${process.getuid?.()}`],
        more: { federatesWith: [partner] },
      }),
    );
    writeFileSync(join(dir.path, 'join'), joinString);
    const config = v.parse(agentConfigSchema, {
      trust_domain: 'example.org',
      state_dir: join(dir.path, 'agent'),
      server: server.facts.address,
      join_string_file: join(dir.path, 'join'),
      workload_api: join(dir.path, 'api.sock'),
      health: '127.0.0.1:0',
      log: { level: 'info' },
    });
    const stop = new AbortController();
    let running: Promise<void> | undefined;
    await new Promise<void>((resolve, reject) => {
      const log = createLogger({ process: 'agent', level: 'silent' });
      running = runAgent(config, { signal: stop.signal, log, onReady: () => resolve() });
      running.catch(reject);
    });

    await using channel = RpcChannel.unix(config.workload_api);
    const options = { signal: stop.signal, metadata: { 'workload.spiffe.io': 'true' } };
    const stream = channel.client(SpiffeWorkloadAPI).fetchX509Bundles({}, options);
    const messages = stream[Symbol.asyncIterator]();
    const shows = async (wanted: number | undefined) => {
      for (;;) {
        const { done, value } = await messages.next();
        assert.ok(done !== true, 'the stream has ended');
        const bytes: Uint8Array | undefined = value.bundles[KEY];
        if ((bytes && splitX509Der(bytes).length) === wanted) return;
      }
    };
    await shows(1);
    await authority.rotate({ taintOld: false });
    await server.admin(TrustDomain).refreshBundle({ trustDomain: partner }, CALL);
    await shows(2);
    const { results } = await server
      .admin(BundleRpc)
      .batchDeleteFederatedBundle({ trustDomains: [partner], mode: Mode.DISSOCIATE }, CALL);
    assert.equal(results[0]?.status?.code, 0);
    await shows(undefined);

    stop.abort();
    await running;
    endpoint.closeAllConnections();
    await new Promise((resolve) => endpoint.close(resolve));
  });
});
