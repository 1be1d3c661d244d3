import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import {
  type CloseSessionRequest,
  CloseSessionRequestSchema,
  OpenSessionRequestSchema,
} from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import {
  AccessWorld,
  BACKEND,
  documents,
  GATEWAY,
  grantYaml,
  OPERATOR,
} from '../../test/fixtures/access-world.ts';
import { SessionOpener } from './open-session.ts';
import { SessionLeases } from './session-leases.ts';
import { GATEWAY_LOST } from './sessions.ts';

describe('Sessions', () => {
  let world: AccessWorld;
  let id: string;
  beforeEach(async () => {
    world = await AccessWorld.create();
    const { chain } = await world.addWorkload('reporting');
    await world.apply(documents(BACKEND, grantYaml('reads', {})));
    const request = create(OpenSessionRequestSchema, { backend: 'shop', clientChain: [...chain] });
    id = (await new SessionOpener(world).open(GATEWAY, request)).sessionId ?? '';
  });

  const account = (sessionId = id): CloseSessionRequest =>
    create(CloseSessionRequestSchema, {
      sessionId,
      reason: 'client\nleft',
      bytesUp: 10n,
      bytesDown: 2n ** 64n - 1n,
      rows: 3n,
      statements: 2n,
      recordingHash: Buffer.alloc(32, 7),
    });

  describe('close', () => {
    it('writes down how the session ended, with counts, as a row and an event', async () => {
      await world.sessions.close(GATEWAY, account());
      const session = await world.sessions.get(id);
      assert.equal(session.closeReason, 'client?left');
      assert.equal(session.rows, 3n);
      assert.equal(session.bytesDown, BigInt(Number.MAX_SAFE_INTEGER));
      assert.notEqual(session.closedAt, undefined);
      const [event] = await world.events('session.closed');
      assert.equal(event?.sessionId, id);
      assert.equal(event?.attributes.recording_hash, '07'.repeat(32));
      assert.deepEqual(await world.sessions.list({ openOnly: true, limit: 10 }), []);
    });

    it('changes nothing the second time', async () => {
      await world.sessions.close(GATEWAY, account());
      await world.sessions.close(GATEWAY, { ...account(), rows: 9n });
      assert.equal((await world.sessions.get(id)).rows, 3n);
      assert.equal((await world.events('session.closed')).length, 1);
    });

    it('S1 knows no session of another gateway', async () => {
      const other = 'spiffe://example.org/writ/gateway/other';
      await assert.rejects(world.sessions.close(other, account()), { code: 'NOT_FOUND' });
      await assert.rejects(world.sessions.close(GATEWAY, account('s_x')), { code: 'NOT_FOUND' });
    });
  });

  describe('kill', () => {
    it('commits the revocation and the event before it returns', async () => {
      await world.sessions.kill(id, 'suspicious', OPERATOR);
      const [revocation] = await world.revocations.since(0n);
      assert.deepEqual(revocation?.subject?.subject, { case: 'sessionId', value: id });
      assert.equal(revocation?.reason, 'suspicious');
      assert.equal((await world.events('session.killed'))[0]?.actor?.kind, 'operator');
    });

    it('refuses what has ended or never was', async () => {
      await world.sessions.close(GATEWAY, account());
      const late = world.sessions.kill(id, 'x', OPERATOR);
      await assert.rejects(late, { code: 'FAILED_PRECONDITION' });
      await assert.rejects(world.sessions.kill('s_x', 'x', OPERATOR), { code: 'NOT_FOUND' });
    });
  });

  describe('SessionLeases', () => {
    let leases: SessionLeases;
    beforeEach(() => {
      leases = new SessionLeases(world);
    });
    const renew = (sessionIds: readonly string[], gateway = GATEWAY) =>
      leases.renew({ gateway, revocationSeq: 5n, sessionIds });
    const reason = async () => (await world.sessions.get(id)).closeReason;

    it('closes a session that its gateway has not told of for 30 s', async () => {
      await world.clock.advance(29_000);
      await leases.sweep();
      assert.equal(await reason(), '');
      await world.clock.advance(2000);
      renew([]);
      await leases.sweep();
      assert.equal(await reason(), GATEWAY_LOST);
      assert.equal((await world.events('session.closed'))[0]?.actor?.kind, 'server');
    });

    it('keeps a session that its gateway tells of, and notes the gateway', async () => {
      for (let n = 0; n < 5; n += 1) {
        await world.clock.advance(10_000);
        renew([id]);
        await leases.sweep();
      }
      assert.equal(await reason(), '');
      const row = await world.store.get('select * from gateways where id = ?', GATEWAY);
      assert.equal(row?.revocation_seq, 5);
      assert.equal(row?.heartbeat_ms, world.clock.now().getTime());
    });

    it('S6 gives every session its full time again after a restart of the server', async () => {
      await world.clock.advance(60_000);
      leases = new SessionLeases(world);
      await leases.sweep();
      assert.equal(await reason(), '');
    });

    it('S6 opens again what had been given up when its gateway comes back with it', async () => {
      await world.clock.advance(31_000);
      await leases.sweep();
      assert.equal(await reason(), GATEWAY_LOST);
      renew([id]);
      await leases.sweep();
      const session = await world.sessions.get(id);
      assert.equal(session.closedAt, undefined);
      assert.equal((await world.events('session.found')).length, 1);
      await leases.sweep();
      assert.equal((await world.sessions.get(id)).closedAt, undefined);
    });

    it('S6 kills a session that was given up: it may live on where nobody hears of it', async () => {
      await world.clock.advance(31_000);
      await leases.sweep();
      await world.sessions.kill(id, 'stolen', OPERATOR);
      assert.equal((await world.revocations.since(0n)).length, 1);
    });

    it('opens nothing again that its gateway has closed, nor for another gateway', async () => {
      await world.clock.advance(31_000);
      await leases.sweep();
      renew([id], 'spiffe://example.org/writ/gateway/other');
      await leases.sweep();
      assert.equal(await reason(), GATEWAY_LOST);
      await world.sessions.close(GATEWAY, account());
      assert.equal(await reason(), 'client?left');
      renew([id]);
      await leases.sweep();
      assert.equal(await reason(), 'client?left');
    });
  });
});
