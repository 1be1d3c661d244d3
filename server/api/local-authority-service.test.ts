import assert from 'node:assert/strict';
import { LocalAuthority } from '../../proto/gen/spire/api/server/localauthority/v1/localauthority_pb.ts';
import { AuthorityService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Client } from '../../runtime/grpc-client.ts';
import { CALL, RunningServer } from '../../test/fixtures/running-server.ts';
import type { Authorities } from '../authority/authorities.ts';
import { localAuthorityService } from './local-authority-service.ts';

describe('localAuthorityService', () => {
  let server: RunningServer;
  let local: Client<typeof LocalAuthority>;
  before(async () => {
    server = await RunningServer.start({ config: { key_manager: { memory: {} } } });
    local = server.admin(LocalAuthority);
  });
  after(() => server[Symbol.asyncDispose]());

  const calls = {
    x509: {
      state: () => local.getX509AuthorityState({}, CALL),
      prepare: () => local.prepareX509Authority({}, CALL),
      activate: (authorityId: string) => local.activateX509Authority({ authorityId }, CALL),
      taint: (authorityId: string) => local.taintX509Authority({ authorityId }, CALL),
      revoke: (authorityId: string) => local.revokeX509Authority({ authorityId }, CALL),
    },
    jwt: {
      state: () => local.getJWTAuthorityState({}, CALL),
      prepare: () => local.prepareJWTAuthority({}, CALL),
      activate: (authorityId: string) => local.activateJWTAuthority({ authorityId }, CALL),
      taint: (authorityId: string) => local.taintJWTAuthority({ authorityId }, CALL),
      revoke: (authorityId: string) => local.revokeJWTAuthority({ authorityId }, CALL),
    },
  };

  for (const kind of ['x509', 'jwt'] as const)
    it(`answers each step of ${kind} with the authority's id and end`, async () => {
      const { state, prepare, activate, taint, revoke } = calls[kind];
      const { active, prepared, old } = await state();
      assert.deepEqual([prepared, old], [undefined, undefined]);
      const first = active?.authorityId ?? '';
      assert.match(first, kind === 'x509' ? /^[0-9a-f]{40}$/ : /^[0-9a-f]{32}$/);
      assert.ok((active?.expiresAt ?? 0n) * 1000n > BigInt(Date.now()));
      const { preparedAuthority } = await prepare();
      const next = preparedAuthority?.authorityId ?? '';
      assert.deepEqual((await state()).prepared, preparedAuthority);
      assert.equal((await activate(next)).activatedAuthority?.authorityId, next);
      assert.deepEqual((await state()).old, active);
      await assert.rejects(taint(next), { status: 'INVALID_ARGUMENT' });
      await assert.rejects(revoke(first), { status: 'FAILED_PRECONDITION' });
      assert.equal((await taint(first)).taintedAuthority?.authorityId, first);
      assert.equal((await revoke(first)).revokedAuthority?.authorityId, first);
      assert.equal((await state()).old, undefined);
      for (const act of [activate, taint, revoke])
        await assert.rejects(act(''), { status: 'INVALID_ARGUMENT' });
    });

  it('has no calls for WIT, nor for an upstream that is not there', async () => {
    const authorityId = 'a';
    for (const call of [
      local.getWITAuthorityState({}, CALL),
      local.prepareWITAuthority({}, CALL),
      local.activateWITAuthority({ authorityId }, CALL),
      local.taintWITAuthority({ authorityId }, CALL),
      local.revokeWITAuthority({ authorityId }, CALL),
    ])
      await assert.rejects(call, { status: 'UNIMPLEMENTED' });
    const subjectKeyId = 'ab';
    for (const call of [
      local.taintX509UpstreamAuthority({ subjectKeyId }, CALL),
      local.revokeX509UpstreamAuthority({ subjectKeyId }, CALL),
    ])
      await assert.rejects(call, { status: 'FAILED_PRECONDITION' });
  });

  it('neither taints nor revokes an X.509 authority of ours under an upstream', async () => {
    const service = localAuthorityService({ authorities: { hasUpstream: true } as Authorities });
    const call = { caller: { kind: 'anonymous', address: '' } } as never;
    for (const act of [service.taintX509Authority, service.revokeX509Authority]) {
      const refused = async () => act?.({ authorityId: 'a' } as never, call);
      await assert.rejects(refused, { code: 'FAILED_PRECONDITION', message: /upstream/ });
    }
  });

  it('is beside the list of all authorities, whose SSH ones have steps of their own', async () => {
    const { authorities } = await server.admin(AuthorityService).listAuthorities({}, CALL);
    const kinds = authorities.map(({ kind, keyType }) => `${kind} ${keyType}`).sort();
    assert.deepEqual(kinds, [
      ...['jwt ec-p256', 'ssh-gateway ed25519', 'ssh-host ed25519', 'ssh-user ed25519'],
      'x509 ec-p256',
    ]);
    const x509 = authorities.find(({ kind }) => kind === 'x509');
    const admin = server.admin(AuthorityService);
    const wrong = { status: 'INVALID_ARGUMENT' };
    await assert.rejects(admin.revokeSshAuthority({ id: x509?.id ?? '' }, CALL), wrong);
    await assert.rejects(admin.activateSshAuthority({ id: '' }, CALL), wrong);
    await assert.rejects(admin.prepareSshAuthority({ kind: 'x509' }, CALL), wrong);
  });
});
