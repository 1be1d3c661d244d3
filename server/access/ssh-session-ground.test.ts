import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { CloseSessionRequestSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { LockTarget } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import {
  AccessWorld,
  AGENT,
  documents,
  GATEWAY,
  OPERATOR,
} from '../../test/fixtures/access-world.ts';
import {
  SSH_BACKEND,
  SshWorkload,
  sshGrantYaml,
  sshRequest,
} from '../../test/fixtures/ssh-access.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { Locks } from './locks.ts';
import { SessionOpener } from './open-session.ts';
import { isRefusal } from './refusal.ts';
import type { RevocationInit } from './revocations.ts';
import { sshSessionGround } from './ssh-session-ground.ts';

const ID = 'spiffe://example.org/ci';
const OTHER_GATEWAY = 'spiffe://example.org/writ/gateway/other';

describe('sshSessionGround', () => {
  let world: AccessWorld;
  let client: SshWorkload;
  let sessionId: string;
  let expiresAt: Date;
  beforeEach(async () => {
    world = await AccessWorld.create();
    await world.addWorkload('ci');
    client = await SshWorkload.issue(world, 'ci');
    await world.apply(
      documents(SSH_BACKEND, sshGrantYaml('deploys', { ssh: 'logins: [admin, deploy]' })),
    );
    const request = sshRequest(client.proof());
    sessionId = (await new SessionOpener(world).open(GATEWAY, request)).sessionId ?? '';
    const [session] = await world.sessions.list({ openOnly: true, limit: 1 });
    expiresAt = new Date(Number(session?.expiresAt?.seconds) * 1000);
    await world.clock.advance(50);
  });

  const ground = (gateway = GATEWAY, session = sessionId) =>
    world.store.transaction((tx) =>
      sshSessionGround(tx, { gateway, sessionId: session }, world.clock.now()),
    );

  const found = async () => {
    const outcome = await ground();
    return isRefusal(outcome) ? assert.fail(outcome.cause) : outcome;
  };

  const refuses = async (cause: string) => {
    const outcome = await ground();
    assert.ok(isRefusal(outcome), 'the session still stands');
    assert.equal(outcome.cause, cause);
  };

  it('tells on what a certificate for the target is issued', async () => {
    const { rights, ...rest } = await found();
    assert.deepEqual(rest, {
      spiffeId: ID,
      serial: client.serial,
      backend: 'web-1',
      login: 'deploy',
      principal: 'web-1/deploy',
      endsAt: expiresAt,
      entryId: 'entry-ci',
      agentId: AGENT,
      grant: 'deploys',
    });
    assert.deepEqual([rights.shell, rights.exec, rights.sftp], [true, true, true]);
  });

  it('tells the rights of the grant as it stands now', async () => {
    const ssh = 'logins: [deploy], channels: { sftp: true }';
    await world.apply(documents(sshGrantYaml('more'), sshGrantYaml('deploys', { ssh })));
    await world.run('delete from revocations');
    const { grant, rights } = await found();
    assert.deepEqual([grant, rights.shell, rights.sftp], ['deploys', false, true]);
  });

  it('ends with the session, its grant, entry or identity, whichever is first', async () => {
    const in3 = world.clock.now().getTime() + 3000;
    await world.run('update entries set expires_at_ms = ?', in3);
    assert.equal((await found()).endsAt.getTime(), in3);
    await world.run('update identities set expires_at_ms = ?', in3 - 1000);
    assert.equal((await found()).endsAt.getTime(), in3 - 1000);
  });

  it('S2 knows no session of another gateway, none that is closed, and none that never was', async () => {
    await world.addGateway(OTHER_GATEWAY, ['*']);
    const [others, none] = [await ground(OTHER_GATEWAY), await ground(GATEWAY, 's_none')];
    assert.ok(isRefusal(others) && isRefusal(none));
    assert.deepEqual([others.cause, none.cause], ['session.unknown', 'session.unknown']);
    await world.sessions.close(GATEWAY, create(CloseSessionRequestSchema, { sessionId }));
    await refuses('session.unknown');
  });

  it('knows no session that was given up', async () => {
    await world.store.transaction((tx) => world.sessions.closeLost(tx, sessionId));
    await refuses('session.unknown');
  });

  it('gives nothing from the end of the session on', async () => {
    const left = expiresAt.getTime() - world.clock.now().getTime();
    world.clock.jump(left - 1);
    await found();
    world.clock.jump(1);
    await refuses('session.expired');
  });

  it('S2 gives nothing of a session that was opened by an X509-SVID', async () => {
    await world.run(`update ledger set kind = 'x509' where serial = '${client.serial}'`);
    await refuses('serial.unknown');
  });

  describe('S2 gives nothing once something is taken away', () => {
    it('S2 when the session is killed', async () => {
      await world.sessions.kill(sessionId, 'stolen', OPERATOR);
      await refuses('session.revoked');
    });

    it('S2 when the grant is deleted', async () => {
      await world.applier.delete('Grant', 'deploys', OPERATOR);
      await refuses('session.revoked');
    });

    it('S2 when the grant is narrowed, also if it is widened again', async () => {
      await world.apply(sshGrantYaml('deploys', { ssh: 'logins: [deploy]' }));
      await refuses('session.revoked');
      await world.apply(sshGrantYaml('deploys', { ssh: 'logins: [admin, deploy]' }));
      await refuses('session.revoked');
    });

    it('S2 when the target has another address', async () => {
      await world.apply(SSH_BACKEND.replace('web-1.internal', 'web-9.internal'));
      await refuses('session.revoked');
    });

    const targets: readonly Exclude<LockTarget['target'], { case: undefined }>[] = [
      { case: 'spiffeId', value: ID },
      { case: 'agentId', value: AGENT },
      { case: 'grant', value: 'deploys' },
      { case: 'backend', value: 'web-1' },
    ];
    for (const target of targets) {
      it(`S2 when a lock names its ${target.case}, also once it is lifted`, async () => {
        const locks = new Locks(world);
        const init = { target, reason: 'stolen', ttlSeconds: 0, createdBy: 'uid:0' };
        const { name } = await locks.create(init, OPERATOR);
        await refuses('session.revoked');
        await locks.delete(name, OPERATOR);
        await refuses('session.revoked');
      });
    }

    const subjects: readonly (readonly [RevocationInit['subject']['kind'], () => string])[] = [
      ['serial', () => client.serial],
      ['entry_id', () => 'entry-ci'],
      ['agent_id', () => AGENT],
      ['spiffe_id', () => ID],
    ];
    for (const [kind, value] of subjects) {
      it(`S2 when its ${kind} is revoked`, async () => {
        const init = { subject: { kind, value: value() }, cause: 'test', reason: 'test' };
        await world.store.transaction((tx) => world.revocations.revoke(tx, init));
        await refuses('session.revoked');
      });
    }

    // As if no revocation had followed: each is looked at for itself.
    const changes: readonly [what: string, sql: string, cause: string][] = [
      ['the agent is banned', 'update agents set banned = 1', 'agent.banned'],
      ['the agent is gone', 'delete from agents', 'agent.gone'],
      ['the entry is deleted', 'delete from entries', 'entry.gone'],
      ['the entry has expired', 'update entries set expires_at_ms = 1', 'entry.expired'],
      ['the identity is gone', 'delete from identities', 'identity.inactive'],
      ['it is suspended', `update identities set status = 'suspended'`, 'identity.inactive'],
      ['it has expired', 'update identities set expires_at_ms = 1', 'identity.expired'],
      ['the grant is gone', `delete from resources where kind = 'Grant'`, 'grant.none'],
      ['the backend is gone', `delete from resources where kind = 'Backend'`, 'backend.unknown'],
      ['the gateway is gone', 'delete from gateways', 'backend.not_served'],
      [
        'the gateway serves it no more',
        `update gateways set backends = '["other"]'`,
        'backend.not_served',
      ],
    ];
    for (const [what, sql, cause] of changes) {
      it(`S2 when ${what}`, async () => {
        await world.run(sql);
        await refuses(cause);
      });
    }

    it('S2 when a lock is in force of which no revocation is known', async () => {
      const target = { case: 'backend', value: 'web-1' } as const;
      await new Locks(world).create(
        { target, reason: 'stolen', ttlSeconds: 0, createdBy: 'uid:0' },
        OPERATOR,
      );
      await world.run('delete from revocations');
      await refuses('lock');
    });

    it('S2 when the grant has expired', async () => {
      const expires = new Date(world.clock.now().getTime() + 100).toISOString();
      await world.apply(sshGrantYaml('deploys', { ssh: 'logins: [admin, deploy]', expires }));
      await world.run('delete from revocations');
      await world.clock.advance(150);
      await refuses('grant.expired');
    });

    it('S2 when the grant gives the login no more', async () => {
      await world.apply(sshGrantYaml('deploys', { ssh: 'logins: [admin]' }));
      await world.run('delete from revocations');
      await refuses('login.not_granted');
    });
  });

  it('stands when what is revoked is of others, or was before it opened', async () => {
    const subjects = [
      { kind: 'grant', value: 'other' },
      { kind: 'backend', value: 'deploys' },
      { kind: 'session_id', value: 's_other' },
    ] as const;
    for (const subject of subjects) {
      const init = { subject, cause: 'test', reason: 'test' };
      await world.store.transaction((tx) => world.revocations.revoke(tx, init));
    }
    await world.run(
      `insert into revocations (at_ms, subject_kind, subject, cause, reason)
       values (1, 'grant', 'deploys', 'grant.update', '')`,
    );
    await found();
  });

  it('asks for revocations by subject, without a walk through all of them', async () => {
    const plans: string[] = [];
    const reader: Reader = {
      all: (sql, ...values) => world.store.all(sql, ...values),
      findMany: (init) => world.store.findMany(init),
      get: async (sql, ...values) => {
        const steps = await world.store.all(`explain query plan ${sql}`, ...values);
        plans.push(...steps.map(({ detail }) => String(detail)));
        return undefined;
      },
    };
    await sshSessionGround(reader, { gateway: GATEWAY, sessionId }, world.clock.now());
    const ofRevocations = plans.filter((step) => / r\b/.test(step));
    assert.equal(ofRevocations.length, 7);
    for (const step of ofRevocations) assert.match(step, /^SEARCH r USING INDEX revocations_by/);
  });
});
