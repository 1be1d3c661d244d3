import assert from 'node:assert/strict';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { verifySshCertificate } from '../../identity/ssh/verify-certificate.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import type { PermissionDeniedDetails_Reason as Reason } from '../../proto/gen/spire/api/types/status_pb.ts';
import { SshService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { TD } from '../../test/fixtures/registry-world.ts';
import { CALL, denialOf, until } from '../../test/fixtures/running-server.ts';
import { RunningSsh } from '../../test/fixtures/running-ssh.ts';
import { newSshKey } from '../../test/fixtures/ssh-world.ts';

describe('agentSshService', () => {
  let ssh: RunningSsh;
  before(async () => {
    ssh = await RunningSsh.start({ ttl: { ssh_certificate: '10m' } });
  });
  after(() => ssh[Symbol.asyncDispose]());

  const targets = (entryIds: string[], channel = ssh.agent.channel) =>
    channel.client(AgentService).listSshTargets({ entryIds }, CALL);

  it("signs a workload's key for as long as configured, and tells who signs hosts", async () => {
    const { publicKey } = newSshKey();
    const before = Date.now();
    const { certificate, hostAuthorities, expiresAt } = await ssh.signUser(publicKey);
    const { user, host } = await ssh.server.admin(SshService).listSshAuthorities({}, CALL);
    const rule = { type: 'user', authorities: user, now: new Date() } as const;
    const found = verifySshCertificate(certificate, rule);
    assert.deepEqual([found.keyId, found.principals], [`spiffe://${TD}/ci`, [found.keyId]]);
    assert.ok(found.publicKey.equals(publicKey));
    assert.deepEqual(hostAuthorities, host);
    assert.ok(expiresAt);
    assert.deepEqual(timestampDate(expiresAt), found.validBefore);
    assert.ok(found.validBefore.getTime() > before + 598_000);
    const events = await ssh.server.events();
    const issued = events.filter(({ svidSerial }) => svidSerial === String(found.serial));
    assert.deepEqual(
      issued.map(({ type, actor, entryId }) => [type, actor?.spiffeId, entryId]),
      [['identity.ssh_certificate.issued', ssh.agent.svid.id.toString(), ssh.entryId]],
    );
  });

  it('refuses what it cannot read, and entries that are not the agents', async () => {
    const { publicKey } = newSshKey();
    await assert.rejects(ssh.signUser(publicKey, ''), { status: 'INVALID_ARGUMENT' });
    await assert.rejects(ssh.signUser(Buffer.from('no')), { faultCode: 'SSH_INVALID' });
    await assert.rejects(ssh.signUser(publicKey, 'none'), { status: 'NOT_FOUND' });
    const other = await ssh.server.newAgent();
    const { id } = await ssh.server.entryUnder(other.svid, '/other');
    await assert.rejects(ssh.signUser(publicKey, id), { status: 'NOT_FOUND' });
  });

  it('lists where the identities of its own entries may log in, and through which gateways', async () => {
    const { entryId, agent, server, gateway } = ssh;
    const expected = { backend: 'web-1', logins: ['deploy'] };
    const hostAuthorities = (await server.admin(SshService).listSshAuthorities({}, CALL)).host;
    const answer = await targets([entryId, 'none']);
    assert.deepEqual(answer.hostAuthorities, hostAuthorities);
    assert.deepEqual(
      answer.targets.map(({ backend, logins, gateways }) => ({ backend, logins, gateways })),
      [{ ...expected, gateways: [] }],
    );
    const stop = new AbortController();
    async function* requests() {
      const hello = { recordingKey: Buffer.alloc(32, 1), ports: { ssh: 2222, postgres: 6432 } };
      yield { message: { case: 'hello' as const, value: hello } };
      await new Promise((resolve) => stop.signal.addEventListener('abort', resolve));
    }
    const stream = gateway.connect(requests(), { signal: stop.signal })[Symbol.asyncIterator]();
    await stream.next();
    await until(async () => (await targets([entryId])).targets[0]?.gateways.length === 1);
    const [way] = (await targets([entryId])).targets[0]?.gateways ?? [];
    assert.deepEqual([way?.name, way?.hosts, way?.port], ['main', ['gw.example.org'], 2222]);
    stop.abort();

    const { id: without } = await server.entryUnder(agent.svid, '/without-grant');
    assert.deepEqual((await targets([without])).targets, []);
    assert.deepEqual((await targets([])).targets, []);
    const other = await server.newAgent();
    assert.deepEqual((await targets([entryId], other.channel)).targets, []);
  });

  it('bounds a list of entries', async () => {
    const ids = Array.from({ length: 500 }, (_, index) => `entry-${index}`);
    assert.deepEqual((await targets(ids)).targets, []);
    await assert.rejects(targets([...ids, 'more']), { status: 'RESOURCE_EXHAUSTED' });
  });

  it('gives a banned agent nothing', async () => {
    const { svid, channel } = await ssh.server.newAgent();
    const { id: entryId } = await ssh.server.entryUnder(svid, '/banned');
    const client = channel.client(AgentService);
    const { publicKey } = newSshKey();
    await client.signSshCertificate({ entryId, publicKey }, CALL);
    await ssh.server.admin(Agent).banAgent({ id: { trustDomain: TD, path: svid.id.path } }, CALL);
    const signing = client.signSshCertificate({ entryId, publicKey }, CALL);
    assert.equal(await denialOf(signing), 4 satisfies Reason);
    assert.equal(await denialOf(targets([entryId], channel)), 4 satisfies Reason);
  });
});
