import assert from 'node:assert/strict';
import { LockService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { AccessServer } from '../../test/fixtures/access-server.ts';
import { AGENT } from '../../test/fixtures/access-world.ts';

describe('lockService', () => {
  let server: AccessServer;
  beforeEach(async () => {
    server = await AccessServer.start();
  });
  afterEach(() => server[Symbol.asyncDispose]());

  it('makes, lists and deletes locks', async () => {
    const service = await server.client(LockService);
    const target = { target: { case: 'agentId', value: AGENT } } as const;
    const { lock } = await service.createLock(
      { target, reason: 'stolen', ttlSeconds: 60 },
      server.options,
    );
    assert.equal(lock?.createdBy, 'uid:0');
    assert.equal((await service.listLocks({}, server.options)).locks.length, 1);
    await service.deleteLock({ name: lock?.name ?? '' }, server.options);
    for (const bad of [
      { reason: 'no target' },
      { target, reason: '' },
      { target, reason: 'two\nlines' },
      {
        target: { target: { case: 'spiffeId', value: 'spiffe://other/x' } as const },
        reason: 'x',
      },
    ]) {
      await assert.rejects(service.createLock(bad, server.options), {
        faultCode: 'INVALID_ARGUMENT',
      });
    }
  });
});
