import assert from 'node:assert/strict';
import { ResourceService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { AccessServer, SHOP } from '../../test/fixtures/access-server.ts';
import { BACKEND, documents, grantYaml } from '../../test/fixtures/access-world.ts';

describe('resourceService', () => {
  let server: AccessServer;
  beforeEach(async () => {
    server = await AccessServer.start();
  });
  afterEach(() => server[Symbol.asyncDispose]());

  it('applies, lists, gets and deletes resources', async () => {
    const service = await server.client(ResourceService);
    const files = [{ name: 'shop.yaml', content: SHOP }];
    const { changes } = await service.apply({ files }, server.options);
    assert.equal(changes.length, 4);
    for (const bad of [[], [{ name: 'a\nb', content: SHOP }], [{ content: SHOP }]]) {
      const wrong = service.apply({ files: bad }, server.options);
      await assert.rejects(wrong, { faultCode: 'INVALID_ARGUMENT' });
    }
    const any = documents(
      BACKEND,
      grantYaml('all', { postgres: 'select: [public.orders], statements: [any]' }),
    );
    const warned = await service.apply(
      { files: [{ name: 'shop.yaml', content: any }], dryRun: true },
      server.options,
    );
    assert.deepEqual(
      changes.flatMap(({ warnings }) => warnings),
      [],
    );
    assert.match(
      warned.changes.flatMap(({ warnings }) => warnings).join('\n'),
      /^shop\.yaml:\d+: postgres\.statements: any lets sessions do all that the database lets/,
    );
    const { resources } = await service.listResources({ kind: 'Grant' }, server.options);
    assert.equal(resources.length, 1);
    assert.equal((await service.listResources({}, server.options)).resources.length, 4);
    const grant = { kind: 'Grant', name: 'reads' };
    assert.equal((await service.getResource(grant, server.options)).resource?.generation, 1n);
    await service.deleteResource(grant, server.options);
    await assert.rejects(service.getResource(grant, server.options), { faultCode: 'NOT_FOUND' });
    const lock = service.listResources({ kind: 'Lock' }, server.options);
    await assert.rejects(lock, { faultCode: 'INVALID_ARGUMENT' });
  });
});
