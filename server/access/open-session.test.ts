import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import type { X509Svid } from '../../identity/x509-svid.ts';
import { OpenSessionRequestSchema } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import {
  AccessWorld,
  AGENT,
  BACKEND,
  documents,
  GATEWAY,
  grantYaml,
  OPERATOR,
  TRUST_DOMAIN,
} from '../../test/fixtures/access-world.ts';
import { Locks } from './locks.ts';
import { SessionOpener } from './open-session.ts';

describe('SessionOpener', () => {
  let world: AccessWorld;
  let opener: SessionOpener;
  let svid: X509Svid;
  beforeEach(async () => {
    world = await AccessWorld.create();
    opener = new SessionOpener(world);
    svid = await world.addWorkload('reporting');
    await world.apply(documents(BACKEND, grantYaml('reads', {})));
  });

  const open = (
    wish: {
      grant?: string;
      backend?: string;
      chain?: readonly Uint8Array[];
      from?: string;
      reason?: string;
    } = {},
  ) =>
    opener.open(
      wish.from ?? GATEWAY,
      create(OpenSessionRequestSchema, {
        backend: wish.backend ?? 'shop',
        grant: wish.grant ?? '',
        clientChain: [...(wish.chain ?? svid.chain)],
        clientAddress: '192.0.2.1:5000',
        reason: wish.reason ?? '',
      }),
    );

  const refuses = async (opening: Promise<unknown>, cause: string) => {
    await assert.rejects(opening, { code: 'PERMISSION_DENIED', cause });
    const [event] = (await world.events('session.denied')).slice(-1);
    assert.equal(event?.attributes.cause, cause);
    assert.deepEqual(await world.sessions.list({ openOnly: false, limit: 10 }), []);
  };

  it('commits the row and its event before it answers', async () => {
    const opened = await open();
    assert.match(opened.sessionId ?? '', /^s_[a-z2-7]{26}$/);
    assert.equal(opened.owner, 'ana@example.org');
    assert.equal(opened.entryId, 'entry-reporting');
    assert.equal(opened.agentId, AGENT);
    assert.equal(opened.svidSerial, svid.serial);
    const [session] = await world.sessions.list({ openOnly: true, limit: 10 });
    assert.equal(session?.id, opened.sessionId);
    assert.equal(session?.gateway, GATEWAY);
    const [event] = await world.events('session.opened');
    assert.equal(event?.sessionId, opened.sessionId);
    assert.equal(event?.actor?.spiffeId, GATEWAY);
    assert.equal(event?.grant, 'reads');
  });

  it("keeps the client's own reason, cut to what a list shows", async () => {
    await open({ reason: `ticket 7${'x'.repeat(1000)}` });
    const [session] = await world.sessions.list({ openOnly: true, limit: 10 });
    assert.match(session?.reason ?? '', /^ticket 7x{248}$/);
    const [event] = await world.events('session.opened');
    assert.equal(event?.attributes.reason, session?.reason);
  });

  it('takes no SVID of the name and serial of ours that another server has issued', async () => {
    world.elsewhere.add(svid.serial);
    await refuses(open(), 'svid.foreign');
  });

  it('ends a session at the earliest of SVID, grant, identity, entry and maximum', async () => {
    const end = async () => timestampDate((await open()).expiresAt as never).getTime();
    const now = world.clock.now().getTime();
    assert.equal(await end(), Math.min(now + 3_600_000, svid.notAfter.getTime()));
    await world.run(`update identities set expires_at_ms = ?`, now + 3000);
    assert.equal(await end(), now + 3000);
    await world.run(`update entries set expires_at_ms = ?`, now + 2000);
    assert.equal(await end(), now + 2000);
    const expires = new Date(now + 1000);
    await world.apply(grantYaml('reads', { expires: expires.toISOString() }));
    assert.equal(await end(), expires.getTime());
  });

  it('ends a session with the exception of a backend that leaves it to its gateway', async () => {
    const now = world.clock.now().getTime();
    const exception = (ms: number) => `${BACKEND.trimEnd()}
  enforce: gateway
  exception: { owner: dba@example.org, reason: x, expires_at: ${new Date(ms).toISOString()} }`;
    await world.apply(exception(now));
    await refuses(open(), 'exception.expired');
    await world.apply(exception(now + 5000));
    const { expiresAt } = await open();
    assert.equal(timestampDate(expiresAt as never).getTime(), now + 5000);
  });

  describe('S2 one gateway taken over is not every host', () => {
    it('S2 opens nothing for a client whose SVID another authority signed', async () => {
      const other = await FakeAuthority.create(TRUST_DOMAIN);
      const { chain } = await other.issue(svid.id);
      await refuses(open({ chain }), 'svid.invalid');
      await refuses(open({ chain: [] }), 'svid.invalid');
    });

    it('S2 opens nothing for a serial that the ledger does not know', async () => {
      const { chain } = await world.authority.issue(svid.id);
      await refuses(open({ chain }), 'serial.unknown');
    });

    it('S2 opens nothing for an SVID of an agent or of Writ itself', async () => {
      const agent = await world.authority.issue(SpiffeId.parse(AGENT));
      await world.run(
        `insert into ledger
         (serial, kind, spiffe_id, entry_id, agent_id, issued_at_ms, not_after_ms)
       values (?, 'agent', ?, null, ?, 0, 0)`,
        agent.serial,
        AGENT,
        AGENT,
      );
      await refuses(open({ chain: agent.chain }), 'serial.unknown');
    });

    it('S2 opens nothing on a backend that its record does not name', async () => {
      await world.addGateway('spiffe://example.org/writ/gateway/other', ['stock']);
      const from = 'spiffe://example.org/writ/gateway/other';
      await refuses(open({ from }), 'backend.not_served');
      await refuses(open({ from: 'spiffe://example.org/writ/gateway/none' }), 'backend.not_served');
    });

    const changes: readonly [string, string, string][] = [
      ['a banned agent', 'update agents set banned = 1', 'agent.banned'],
      ['an agent that was evicted', 'delete from agents', 'agent.gone'],
      ['an entry that was deleted', 'delete from entries', 'entry.gone'],
      ['an entry that has expired', 'update entries set expires_at_ms = 1', 'entry.expired'],
      ['an identity without record', 'delete from identities', 'identity.inactive'],
      ['a suspended identity', `update identities set status = 'suspended'`, 'identity.inactive'],
      ['an expired identity', 'update identities set expires_at_ms = 1', 'identity.expired'],
    ];
    for (const [what, sql, cause] of changes) {
      it(`S2 opens nothing for ${what}`, async () => {
        await world.run(sql);
        await refuses(open(), cause);
      });
    }

    it('S2 opens nothing while a lock names the identity, its agent, the grant or the backend', async () => {
      const locks = new Locks(world);
      const targets = [
        { case: 'spiffeId', value: 'spiffe://example.org/reporting' },
        { case: 'agentId', value: AGENT },
        { case: 'grant', value: 'reads' },
        { case: 'backend', value: 'shop' },
      ] as const;
      for (const target of targets) {
        const lock = await locks.create(
          { target, reason: 'stolen', ttlSeconds: 0, createdBy: 'uid:0' },
          OPERATOR,
        );
        await assert.rejects(open(), { code: 'PERMISSION_DENIED', message: 'locked: stolen' });
        await locks.delete(lock.name, OPERATOR);
      }
      await open();
    });

    it('S2 opens nothing for an SVID that was issued before its entry changed', async () => {
      const subject = { kind: 'entry_id', value: 'entry-reporting' } as const;
      await world.clock.advance(50);
      await world.store.transaction((tx) =>
        world.revocations.revoke(tx, { subject, cause: 'entry.update', reason: 'changed' }),
      );
      await refuses(open(), 'serial.revoked');
      await world.clock.advance(50);
      svid = await world.issue('reporting');
      await open();
    });
  });

  describe('S13 several grants on one backend', () => {
    beforeEach(() => world.apply(grantYaml('writes', {})));

    it('S13 refuses when none is named, with the list', async () => {
      await assert.rejects(open(), {
        code: 'PERMISSION_DENIED',
        message: 'you hold several grants on this backend: name one of reads, writes as the user',
      });
    });

    it('S13 opens the one that is named', async () => {
      assert.equal((await open({ grant: 'writes' })).grant?.name, 'writes');
    });

    it('S13 refuses a grant that is not theirs and one that is not there alike', async () => {
      await world.addWorkload('other');
      await world.apply(grantYaml('others', { identity: 'other' }));
      await refuses(open({ grant: 'others' }), 'grant.not_held');
      await refuses(open({ grant: 'nothing' }), 'grant.not_held');
    });

    it('S13 counts no grant that has expired', async () => {
      const expires = new Date(world.clock.now().getTime() + 100).toISOString();
      await world.apply(grantYaml('writes', { expires }));
      await world.clock.advance(150);
      assert.equal((await open()).grant?.name, 'reads');
      await assert.rejects(open({ grant: 'writes' }), { cause: 'grant.expired' });
    });
  });

  it('tells who holds no grant nothing of the backend', async () => {
    await refuses(open({ backend: 'stock' }), 'grant.none');
    svid = await world.addWorkload('other');
    await refuses(open(), 'grant.none');
  });

  it('writes one event a minute for the same refusal, so that a loop fills no disk', async () => {
    for (let n = 0; n < 5; n += 1) await assert.rejects(open({ backend: 'stock' }));
    assert.equal((await world.events('session.denied')).length, 1);
    await assert.rejects(open({ backend: 'other' }));
    assert.equal((await world.events('session.denied')).length, 2);
    await world.clock.advance(60_000);
    await assert.rejects(open({ backend: 'stock' }));
    assert.equal((await world.events('session.denied')).length, 3);
  });
});
