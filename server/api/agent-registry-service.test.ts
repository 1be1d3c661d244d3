import assert from 'node:assert/strict';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import {
  AgentRegistryService,
  GatewayRegistryService,
  ResourceService,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { BACKEND, documents, grantYaml } from '../../test/fixtures/access-world.ts';
import { entryInit, TD } from '../../test/fixtures/registry-world.ts';
import { CALL, RunningServer } from '../../test/fixtures/running-server.ts';

describe('agentRegistryService', () => {
  let server: RunningServer;
  let agentId: string;
  const reach = async (id: string) => {
    const { entries } = await server.admin(AgentRegistryService).getReach({ agentId: id }, CALL);
    return entries.map(({ spiffeId, through, grants }) => ({ spiffeId, through, grants }));
  };
  const id = (path: string) => `spiffe://${TD}${path}`;
  before(async () => {
    server = await RunningServer.start();
    const { svid } = await server.newAgent(id('/node/one'));
    agentId = svid.id.toString();
    await server.createEntry(entryInit({ path: '/reporting', parent: '/node/one' }));
    await server.createEntry(entryInit({ path: '/child', parent: '/reporting' }));
    await server.createEntry(entryInit({ path: '/direct', parent: svid.id.path }));
    await server.createEntry(entryInit({ path: '/elsewhere', parent: '/node/two' }));
    await server.admin(GatewayRegistryService).createGateway(
      {
        name: 'main',
        backends: ['*'],
        names: ['gw.example.org'],
        parentId: agentId,
        selectors: ['unix:uid:0'],
      },
      CALL,
    );
    const content = documents(
      BACKEND,
      grantYaml('reads', {}),
      grantYaml('writes', {}),
      grantYaml('others', { identity: 'elsewhere' }),
    );
    await server.admin(ResourceService).apply({ files: [{ name: 'a.yaml', content }] }, CALL);
  });
  after(() => server[Symbol.asyncDispose]());

  it('S12: tells every entry that an agent could be served, through which parents, and its grants', async () => {
    const [alias, node] = [id('/node/one'), agentId];
    const bySpiffeId = new Map((await reach(agentId)).map((one) => [one.spiffeId, one]));
    assert.deepEqual(bySpiffeId.get(id('/reporting')), {
      spiffeId: id('/reporting'),
      through: [node, alias],
      grants: ['reads', 'writes'],
    });
    assert.deepEqual(bySpiffeId.get(id('/child'))?.through, [node, alias, id('/reporting')]);
    assert.deepEqual(bySpiffeId.get(id('/direct'))?.through, [node]);
    assert.ok(!bySpiffeId.has(id('/elsewhere')));
  });

  it('tells nothing of an agent that is banned or not there', async () => {
    await assert.rejects(reach(`${agentId}x`), { faultCode: 'NOT_FOUND' });
    await assert.rejects(reach('spiffe://other.org/spire/agent/x'), {
      faultCode: 'INVALID_ARGUMENT',
    });
    await server
      .admin(Agent)
      .banAgent({ id: { trustDomain: TD, path: agentId.slice(`spiffe://${TD}`.length) } }, CALL);
    assert.deepEqual(await reach(agentId), []);
  });
});
