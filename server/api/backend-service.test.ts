import assert from 'node:assert/strict';
import { BackendService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { AccessServer, SHOP } from '../../test/fixtures/access-server.ts';

describe('backendService', () => {
  let server: AccessServer;
  beforeEach(async () => {
    server = await AccessServer.start();
  });
  afterEach(() => server[Symbol.asyncDispose]());

  it('plans the setup of a backend from what is declared and what was read', async () => {
    await server.world.apply(SHOP);
    const service = await server.client(BackendService);
    const plan = await service.planBackendSetup({ backend: 'shop', catalog: {} }, server.options);
    assert.equal(plan.sql, '-- shop: 1 grants');
    assert.deepEqual(plan.warnings, ['w']);
    const none = service.planBackendSetup({ backend: 'x', catalog: {} }, server.options);
    await assert.rejects(none, { faultCode: 'NOT_FOUND' });
  });

  it('plans as if files were applied, and applies none', async () => {
    const service = await server.client(BackendService);
    const files = [{ name: 'access.yaml', content: SHOP }];
    const request = { backend: 'shop', catalog: {} };
    const plan = await service.planBackendSetup({ ...request, files }, server.options);
    assert.equal(plan.sql, '-- shop: 1 grants');
    const later = service.planBackendSetup(request, server.options);
    await assert.rejects(later, { faultCode: 'NOT_FOUND' });
  });
});
