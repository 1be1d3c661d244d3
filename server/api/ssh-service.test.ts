import assert from 'node:assert/strict';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { fingerprint } from '../../identity/ssh/public-key.ts';
import { verifySshCertificate } from '../../identity/ssh/verify-certificate.ts';
import { SshService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { CALL, RunningServer, temporaryDir } from '../../test/fixtures/running-server.ts';
import { RunningSsh } from '../../test/fixtures/running-ssh.ts';
import { newSshKey } from '../../test/fixtures/ssh-world.ts';

describe('sshService', () => {
  let ssh: RunningSsh;
  before(async () => {
    ssh = await RunningSsh.start();
  });
  after(() => ssh[Symbol.asyncDispose]());

  const sign = (backend: string, change: { ttlSeconds?: number; publicKey?: Uint8Array } = {}) => {
    const request = { backend, publicKey: newSshKey().publicKey, ...change };
    return ssh.server.admin(SshService).signHostCertificate(request, CALL);
  };

  it("certifies a target's host key, and says what the target has to let in", async () => {
    const { host } = await ssh.server.admin(SshService).listSshAuthorities({}, CALL);
    const { certificate, expiresAt, principals } = await sign('web-1', { ttlSeconds: 3600 });
    const rule = { type: 'host', authorities: host, now: new Date(), principal: 'web-1' } as const;
    const found = verifySshCertificate(certificate, rule);
    assert.ok(expiresAt);
    assert.deepEqual(timestampDate(expiresAt), found.validBefore);
    assert.deepEqual(
      Object.entries(principals)
        .map(([account, listed]) => [account, listed.principals])
        .sort(),
      [
        ['deploy', ['web-1/deploy']],
        ['root', ['web-1/admin']],
      ],
    );
  });

  it('certifies no other host, no other key, and none for longer than a year', async () => {
    await assert.rejects(sign('web-2'), { status: 'NOT_FOUND' });
    await assert.rejects(sign(''), { status: 'NOT_FOUND' });
    const garbage = sign('web-1', { publicKey: Buffer.from('no key') });
    await assert.rejects(garbage, { faultCode: 'SSH_INVALID' });
    const longer = sign('web-1', { ttlSeconds: 366 * 86_400 });
    await assert.rejects(longer, { status: 'INVALID_ARGUMENT' });
  });

  it('goes on with the same authorities after a restart', async () => {
    using dir = temporaryDir();
    const listed = [];
    for (let start = 0; start < 2; start += 1) {
      await using server = await RunningServer.start({ stateDir: dir.path });
      const { user, host, gateway } = await server.admin(SshService).listSshAuthorities({}, CALL);
      listed.push([...user, ...host, ...gateway].map(fingerprint));
    }
    assert.equal(new Set(listed[0]).size, 3);
    assert.deepEqual(listed[1], listed[0]);
  });
});
