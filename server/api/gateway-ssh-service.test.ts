import assert from 'node:assert/strict';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { verifySshCertificate } from '../../identity/ssh/verify-certificate.ts';
import { SessionService, SshService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { CALL } from '../../test/fixtures/running-server.ts';
import { RunningSsh } from '../../test/fixtures/running-ssh.ts';
import { newSshKey } from '../../test/fixtures/ssh-world.ts';

describe('gatewaySshService', () => {
  let ssh: RunningSsh;
  before(async () => {
    ssh = await RunningSsh.start();
  });
  after(() => ssh[Symbol.asyncDispose]());

  const authorities = () => ssh.server.admin(SshService).listSshAuthorities({}, CALL);
  const signLogin = (sessionId: string, publicKey: Uint8Array = newSshKey().publicKey) =>
    ssh.gateway.signSshCertificate({ sessionId, publicKey }, CALL);
  const signHost = (backend: string, publicKey: Uint8Array = newSshKey().publicKey) =>
    ssh.gateway.signSshHostCertificate({ backend, publicKey }, CALL);

  it('S2 signs a key for one login of an open session, for the address that it is called from', async () => {
    const { publicKey } = newSshKey();
    const { certificate, expiresAt } = await signLogin(await ssh.openSession(), publicKey);
    const { gateway, user, host } = await authorities();
    const rule = { type: 'user', now: new Date(), sourceAddress: '127.0.0.1' } as const;
    const found = verifySshCertificate(certificate, { ...rule, authorities: gateway });
    assert.deepEqual(found.principals, ['web-1/deploy']);
    assert.equal(found.criticalOptions.get('source-address'), '127.0.0.1');
    assert.ok(found.publicKey.equals(publicKey));
    assert.ok(expiresAt);
    assert.deepEqual(timestampDate(expiresAt), found.validBefore);
    const others = { ...rule, authorities: [...user, ...host] };
    assert.throws(() => verifySshCertificate(certificate, others), { code: 'SSH_INVALID' });
  });

  it('S2 signs nothing for a session that was killed, or that is not there', async () => {
    const sessionId = await ssh.openSession();
    await ssh.server.admin(SessionService).killSession({ sessionId, reason: '' }, CALL);
    await assert.rejects(signLogin(sessionId), { status: 'PERMISSION_DENIED' });
    await assert.rejects(signLogin('s_none'), { status: 'PERMISSION_DENIED' });
  });

  it('signs host keys of the gateway and of the backends it serves', async () => {
    const { host } = await authorities();
    const rule = { type: 'host', authorities: host, now: new Date() } as const;
    const own = verifySshCertificate((await signHost('')).certificate, rule);
    assert.deepEqual(own.principals, ['gw.example.org']);
    const inner = verifySshCertificate((await signHost('web-1')).certificate, rule);
    assert.deepEqual(inner.principals, ['web-1']);
    await assert.rejects(signHost('web-2'), { status: 'NOT_FOUND' });
  });

  it('bounds what comes over the wire', async () => {
    const sessionId = await ssh.openSession();
    for (const ask of [
      () => signLogin('x'.repeat(300)),
      () => signLogin('a\nb'),
      () => signLogin(sessionId, Buffer.alloc(16 * 1024 + 1)),
      () => signLogin(sessionId, Buffer.of()),
      () => signHost('x'.repeat(300)),
      () => signHost('', Buffer.alloc(16 * 1024 + 1)),
      () => signHost('', Buffer.from('no key')),
    ])
      await assert.rejects(ask(), { status: 'INVALID_ARGUMENT' });
  });
});
