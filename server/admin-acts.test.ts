import assert from 'node:assert/strict';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { SpiffeId } from '../identity/spiffe-id.ts';
import { createCsr } from '../identity/x509/csr.ts';
import { generateKey } from '../identity/x509/key.ts';
import { Agent } from '../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Entry } from '../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { SVID } from '../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import * as admin from '../proto/gen/writ/admin/v1/admin_pb.ts';
import { registrarInit } from '../test/fixtures/registrar-init.ts';
import { entryInit, TD } from '../test/fixtures/registry-world.ts';
import { CALL, RunningServer } from '../test/fixtures/running-server.ts';

const WEB = `spiffe://${TD}/web`;
const LOCK = { target: { target: { case: 'spiffeId', value: WEB } } } as const;

describe('An act of an operator', () => {
  let server: RunningServer;
  before(async () => {
    server = await RunningServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  const identity = () => ({
    ...{ spiffeId: WEB, owner: 'ana', purpose: 'p', environment: 'e', kind: 'service' },
    expiresAt: timestampFromDate(new Date(Date.now() + 3_600_000)),
  });
  const pathOf = async () => (await server.newAgent()).svid.id.path;
  const entryId = async () =>
    (await server.admin(Entry).listEntries({}, CALL)).entries.map(({ id }) => id).slice(0, 1);
  const csr = async () => createCsr(await generateKey('ec-p256'), { uri: SpiffeId.parse(WEB) });
  const lockName = async () =>
    (await server.admin(admin.LockService).listLocks({}, CALL)).locks[0]?.name ?? '';
  const file = { name: 'a.yaml', content: 'kind: ColumnClass\nname: fine\nmask: last4\n' };

  /** In order: some need what one before them has made. */
  const acts: [string, () => Promise<unknown>][] = [
    ['join_token.created', () => server.admin(Agent).createJoinToken({ ttl: 60 }, CALL)],
    ['join_token.created', () => server.admin(admin.JoinTokenService).createJoinToken({}, CALL)],
    [
      'agent.banned',
      async () =>
        server.admin(Agent).banAgent({ id: { trustDomain: TD, path: await pathOf() } }, CALL),
    ],
    [
      'agent.evicted',
      async () =>
        server.admin(Agent).deleteAgent({ id: { trustDomain: TD, path: await pathOf() } }, CALL),
    ],
    ['entry.created', () => server.createEntry(entryInit({}))],
    [
      'entry.updated',
      async () => {
        const entries = (await entryId()).map((id) => ({ id, hint: 'h' }));
        return server.admin(Entry).batchUpdateEntry({ entries, inputMask: { hint: true } }, CALL);
      },
    ],
    [
      'entry.deleted',
      async () => server.admin(Entry).batchDeleteEntry({ ids: await entryId() }, CALL),
    ],
    [
      'identity.svid.issued',
      async () => server.admin(SVID).mintX509SVID({ csr: await csr() }, CALL),
    ],
    [
      'identity.svid.issued',
      () =>
        server
          .admin(SVID)
          .mintJWTSVID({ id: { trustDomain: TD, path: '/web' }, audience: ['a'] }, CALL),
    ],
    [
      'identity.updated',
      () => server.admin(admin.IdentityService).putIdentity({ identity: identity() }, CALL),
    ],
    [
      'identity.suspended',
      () =>
        server
          .admin(admin.IdentityService)
          .setIdentityStatus({ spiffeId: WEB, status: 'suspended' }, CALL),
    ],
    ['resource.created', () => server.admin(admin.ResourceService).apply({ files: [file] }, CALL)],
    [
      'resource.deleted',
      () =>
        server
          .admin(admin.ResourceService)
          .deleteResource({ kind: 'ColumnClass', name: 'fine' }, CALL),
    ],
    [
      'lock.created',
      () => server.admin(admin.LockService).createLock({ ...LOCK, reason: 'r' }, CALL),
    ],
    [
      'lock.deleted',
      async () => server.admin(admin.LockService).deleteLock({ name: await lockName() }, CALL),
    ],
    [
      'gateway.created',
      () =>
        server.admin(admin.GatewayRegistryService).createGateway(
          {
            ...{ name: 'g', backends: ['*'], names: ['gw.example.org'] },
            ...{ parentId: `spiffe://${TD}/node`, selectors: ['unix:uid:0'] },
          },
          CALL,
        ),
    ],
    [
      'registrar.created',
      () => server.admin(admin.RegistrarService).putRegistrar({ registrar: registrarInit() }, CALL),
    ],
    [
      'registrar.deleted',
      () =>
        server
          .admin(admin.RegistrarService)
          .deleteRegistrar({ spiffeId: `spiffe://${TD}/ci` }, CALL),
    ],
    ['admin_socket.limited', () => server.admin(admin.ServerService).limitAdminSocket({}, CALL)],
  ];
  for (const [at, [type, act]] of acts.entries()) {
    it(`S16: ${at + 1}. is an event ${type} with uid, pid and program`, async () => {
      const before = (await server.events()).length;
      await act();
      const told = (await server.events()).slice(before).filter((event) => event.type === type);
      assert.deepEqual(
        told.map(({ actor }) => [actor?.kind, actor?.uid, actor?.pid, actor?.executable]),
        [['operator', process.getuid?.(), process.pid, process.execPath]],
      );
    });
  }
});
