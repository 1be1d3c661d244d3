import assert from 'node:assert/strict';
import { GatewayRegistryService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { AccessServer } from '../../test/fixtures/access-server.ts';
import { AGENT } from '../../test/fixtures/access-world.ts';

describe('gatewayRegistryService', () => {
  let server: AccessServer;
  beforeEach(async () => {
    server = await AccessServer.start();
  });
  afterEach(() => server[Symbol.asyncDispose]());

  it('makes and lists gateways', async () => {
    const service = await server.client(GatewayRegistryService);
    const request = {
      name: 'edge',
      backends: ['*'],
      names: ['localhost', '127.0.0.1'],
      parentId: AGENT,
      selectors: ['unix:uid:0'],
    };
    const { gateway } = await service.createGateway(request, server.options);
    assert.equal(gateway?.spiffeId, 'spiffe://example.org/writ/gateway/edge');
    assert.equal((await service.listGateways({}, server.options)).gateways.length, 2);
    for (const bad of [
      { name: 'Edge' },
      { backends: [] },
      { backends: ['a b'] },
      { names: ['*.example.org'] },
      { names: ['fe80::1%eth0'] },
      { parentId: 'spiffe://other.org/x' },
      { selectors: ['unix'] },
      { selectors: ['unix:path:/usr/bin/node'] },
    ]) {
      const wrong = service.createGateway({ ...request, name: 'two', ...bad }, server.options);
      await assert.rejects(wrong, { faultCode: 'INVALID_ARGUMENT' });
    }
  });
});
