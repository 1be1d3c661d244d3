import assert from 'node:assert/strict';
import { Entry } from '../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { SVID } from '../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import {
  JoinTokenService,
  LockService,
  ServerService,
  SessionService,
} from '../proto/gen/writ/admin/v1/admin_pb.ts';
import { entryInit, TD } from '../test/fixtures/registry-world.ts';
import { CALL, RunningServer, temporaryDir, until } from '../test/fixtures/running-server.ts';

const denied = { status: 'PERMISSION_DENIED', message: /admin socket is limited/ };

describe('The admin socket', () => {
  /** That reads and locks work, and that what gives a right does not. */
  const requireLimited = async (server: RunningServer) => {
    const entry = server.admin(Entry);
    await assert.rejects(entry.batchCreateEntry({ entries: [entryInit({})] }, CALL), denied);
    await assert.rejects(server.admin(JoinTokenService).createJoinToken({}, CALL), denied);
    await assert.rejects(server.admin(SVID).mintX509SVID({}, CALL), denied);
    assert.equal((await entry.countEntries({}, CALL)).count, 0);
    await server.admin(SessionService).listSessions({}, CALL);
    const target = { target: { case: 'spiffeId', value: `spiffe://${TD}/web` } } as const;
    await server.admin(LockService).createLock({ target, reason: 'safety' }, CALL);
  };

  it('S16: is limited by a call from then on, over restarts, until the configuration opens it', async () => {
    using dir = temporaryDir();
    {
      await using server = await RunningServer.start({ stateDir: dir.path });
      await server.createEntry(entryInit({ path: '/before' }));
      const { entries } = await server.admin(Entry).listEntries({}, CALL);
      await server.admin(Entry).batchDeleteEntry({ ids: entries.map(({ id }) => id) }, CALL);
      await server.admin(ServerService).limitAdminSocket({}, CALL);
      await requireLimited(server);
    }
    {
      await using server = await RunningServer.start({ stateDir: dir.path });
      await requireLimited(server);
    }
    const config = { admin_socket: 'open' };
    await using server = await RunningServer.start({ stateDir: dir.path, config });
    await server.createEntry(entryInit({ path: '/after' }));
    await assert.rejects(server.admin(ServerService).limitAdminSocket({}, CALL), {
      status: 'FAILED_PRECONDITION',
    });
    const types = (await server.events()).map(({ type }) => type);
    assert.ok(types.indexOf('admin_socket.opened') > types.indexOf('admin_socket.limited'));
  });

  it('S16: is limited by the configuration', async () => {
    await using server = await RunningServer.start({ config: { admin_socket: 'limited' } });
    await requireLimited(server);
  });

  it('S16: tells each of its calls, those it refuses too', async () => {
    await using server = await RunningServer.start({ config: { admin_socket: 'limited' } });
    await server.admin(Entry).countEntries({}, CALL);
    await server
      .admin(SVID)
      .mintJWTSVID({}, CALL)
      .catch(() => undefined);
    const told = async () =>
      (await server.events())
        .filter(({ type }) => type.startsWith('admin.call'))
        .map(({ type, actor, attributes: { method = '' } }) =>
          [type, actor?.uid, actor?.pid, actor?.executable, method.split('/').at(-1)].join(' '),
        );
    const by = `${process.getuid?.()} ${process.pid} ${process.execPath}`;
    await until(async () => (await told()).includes(`admin.called ${by} CountEntries`));
    await until(async () => (await told()).includes(`admin.call_refused ${by} MintJWTSVID`));
  });
});
