import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseTrustDomain } from '../identity/spiffe-id.ts';
import { systemClock } from '../runtime/clock.ts';
import { AgentUnderTest } from '../test/fakes/agent-under-test.ts';
import { FakeAuthority } from '../test/fakes/fake-authority.ts';
import { FakeSpireServer } from '../test/fakes/spire-server.ts';
import { SshAuthorities } from '../test/fakes/ssh-authorities.ts';
import { SshAccessClient } from './ssh-access-client.ts';

describe('SshAccessClient', () => {
  let server: FakeSpireServer;
  let agent: AgentUnderTest;
  let client: SshAccessClient;
  before(async () => {
    const authority = await FakeAuthority.create(parseTrustDomain('example.org'));
    server = await FakeSpireServer.start({ authority, ssh: new SshAuthorities(systemClock) });
    const selectors = [{ type: 'unix', value: `uid:${process.getuid?.()}` }];
    server.setEntries([
      { id: 'a', spiffeId: { trustDomain: 'example.org', path: '/a' }, selectors },
    ]);
    agent = await AgentUnderTest.create(server);
    await agent.start();
    client = new SshAccessClient(`unix://${agent.socketPath}`);
    for (let n = 0; n < 200; n += 1) {
      if ((await access().catch(() => undefined)) !== undefined) return;
      await sleep(20);
    }
  });
  after(async () => {
    await client[Symbol.asyncDispose]();
    await agent[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  const access = () => client.access(AbortSignal.timeout(10_000));
  const gateway = {
    name: 'main',
    hosts: ['gw.example.org', '192.0.2.7', '2001:db8::7'],
    port: 2222,
  };

  it('tells where to log in', async () => {
    server.sshTargets = [{ backend: 'web-1', logins: ['deploy', '_ops'], gateways: [gateway] }];
    const { targets, agentSocket } = await access();
    assert.deepEqual(targets[0]?.gateways[0]?.hosts, gateway.hosts);
    assert.equal(agentSocket, agent.sshAgentPath);
  });

  const LINE = 'x\n  ProxyCommand touch /tmp/x';
  const bad = {
    'a backend of two lines': { backend: LINE },
    'a backend that is a pattern': { backend: '*' },
    'a login of two lines': { logins: ['deploy', LINE] },
    'a login that is an option': { logins: ['-oProxyCommand=x'] },
    'a gateway of two lines': { gateways: [{ ...gateway, name: LINE }] },
    'a host of two lines': { gateways: [{ ...gateway, hosts: ['gw', LINE] }] },
    'a host that is an option': { gateways: [{ ...gateway, hosts: ['-oProxyCommand=x'] }] },
    'a host with a token': { gateways: [{ ...gateway, hosts: ['fe80::1%eth0'] }] },
    'hosts in one word': { gateways: [{ ...gateway, hosts: ['gw,*'] }] },
  };
  for (const [what, change] of Object.entries(bad)) {
    it(`takes no ${what.replace(/^an? /, '')} from a server that was taken over`, async () => {
      server.sshTargets = [
        { backend: 'web-1', logins: ['deploy'], gateways: [gateway], ...change },
      ];
      await assert.rejects(access(), { code: 'PROTOCOL_VIOLATION' });
    });
  }
});
