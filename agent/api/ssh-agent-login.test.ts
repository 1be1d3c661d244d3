import assert from 'node:assert/strict';
import type { KeyObject } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { encodePublicKey } from '../../identity/ssh/public-key.ts';
import { systemClock } from '../../runtime/clock.ts';
import { AgentUnderTest } from '../../test/fakes/agent-under-test.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { FakeSpireServer } from '../../test/fakes/spire-server.ts';
import { type CertificateChange, SshAuthorities } from '../../test/fakes/ssh-authorities.ts';
import {
  type CertifiedSshdOptions,
  startCertifiedSshd,
} from '../../test/fixtures/certified-sshd.ts';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { SshAgentClient } from '../../test/fixtures/ssh-agent-client.ts';

const td = parseTrustDomain('example.org');
const entry = (id: string) => ({
  id,
  spiffeId: { trustDomain: td, path: `/${id}` },
  selectors: [{ type: 'unix', value: `uid:${process.getuid?.()}` }],
});
const spiffeId = (id: string) => `spiffe://example.org/${id}`;

describe('a login with the ssh-agent socket', () => {
  const ssh = new SshAuthorities(systemClock);
  const hostAuthority = encodePublicKey(ssh.host);
  const certify = (key: KeyObject) => ssh.issueHost(['127.0.0.1'], key);
  let server: FakeSpireServer;
  let agent: AgentUnderTest;

  before(async function () {
    if (!hasProgram('ssh')) skipWithout(this, 'ssh');
    if (!hasProgram('/usr/sbin/sshd')) skipWithout(this, 'sshd');
    const authority = await FakeAuthority.create(td);
    server = await FakeSpireServer.start({ authority, ssh });
    agent = await AgentUnderTest.create(server);
    server.setEntries([entry('a')]);
    await agent.start();
  });
  after(async () => {
    await agent?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  const offer = async (change: CertificateChange, ...ids: readonly string[]) => {
    server.sshChange = change;
    server.setEntries(ids.map(entry));
    for (;;) {
      using client = await SshAgentClient.connect(agent.sshAgentPath);
      const offered = (await client.identities()).map(({ comment }) => comment);
      if (JSON.stringify(offered) === JSON.stringify(ids.map(spiffeId))) return;
      await sleep(20);
    }
  };
  const sshd = (options: Partial<CertifiedSshdOptions> = {}) =>
    startCertifiedSshd({
      userAuthority: encodePublicKey(ssh.user),
      principals: [spiffeId('a')],
      certify,
      hostAuthority,
      ...options,
    });

  it('needs no key file, and the host lets its SPIFFE ID in', async () => {
    await offer({}, 'a');
    await using host = await sshd();
    const { stdout, stderr, status } = await host.ssh(agent.sshAgentPath, ['127.0.0.1', 'echo in']);
    assert.deepEqual([status, stdout], [0, 'in\n'], stderr);
  });

  it('goes on to the next identity where the first is refused', async () => {
    await offer({}, 'a', 'b');
    await using host = await sshd({ principals: [spiffeId('b')] });
    const { stdout, stderr } = await host.ssh(agent.sshAgentPath, ['127.0.0.1', 'echo in']);
    assert.equal(stdout, 'in\n', stderr);
  });

  it('is refused for an identity that the host does not let in', async () => {
    await offer({}, 'a');
    await using host = await sshd({ principals: [spiffeId('b')] });
    const { stdout, stderr, status } = await host.ssh(agent.sshAgentPath, ['127.0.0.1', 'id']);
    assert.deepEqual([stdout, status], ['', 255]);
    assert.match(stderr, /Permission denied \(publickey\)/);
  });

  const foreign = new SshAuthorities(systemClock);
  for (const [what, options] of [
    ['shows a plain key that its client knows', { certify: undefined, hostAuthority: undefined }],
    [
      'another authority certified that its client trusts',
      {
        certify: (key: KeyObject) => foreign.issueHost(['127.0.0.1'], key),
        hostAuthority: encodePublicKey(foreign.host),
      },
    ],
  ] as const) {
    it(`is not signed to a host that ${what}`, async () => {
      await offer({}, 'a');
      await using host = await sshd(options);
      const { stdout, stderr, status } = await host.ssh(agent.sshAgentPath, ['127.0.0.1', 'id']);
      assert.deepEqual([stdout, status], ['', 255]);
      assert.match(stderr, /agent refused operation/);
    });
  }

  it('is not possible from a host that the agent is forwarded to', async () => {
    // The host would have to allow it; ours never says so in a certificate.
    await offer({ extensions: ['permit-agent-forwarding'] }, 'fwd');
    await using host = await sshd({ principals: [spiffeId('fwd')] });
    const list = ['-A', '127.0.0.1', 'test -S "$SSH_AUTH_SOCK" && ssh-add -L'];
    const listed = await host.ssh(agent.sshAgentPath, list);
    assert.equal(listed.stdout.trim(), 'The agent has no identities.', listed.stderr);
    const onwards = host.command('SSH_AUTH_SOCK', ['127.0.0.1', 'echo twice']);
    const twice = await host.ssh(agent.sshAgentPath, [
      '-A',
      '127.0.0.1',
      'ssh',
      ...onwards.map((word) => `'${word}'`),
    ]);
    assert.equal(twice.stdout, '');
    assert.match(twice.stderr, /Permission denied/);
  });
});
