/** A server whose host's clock jumps under it, and back. */
import assert from 'node:assert/strict';
import { parseCertificate } from '../../identity/x509/certificate.ts';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey } from '../../identity/x509/key.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { PermissionDeniedDetails_Reason as Reason } from '../../proto/gen/spire/api/types/status_pb.ts';
import { AuthorityService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { type Clock, systemClock } from '../../runtime/clock.ts';
import { CALL, denialOf, RunningServer, until } from '../fixtures/running-server.ts';

const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;

/** The system's, but for its wall clock, which is off by what a test says. */
class OffClock implements Clock {
  offMs = 0;
  now = () => new Date(Date.now() + this.offMs);
  monotonicMs = systemClock.monotonicMs;
  wait = systemClock.wait;
  waitUntil = (at: Date, signal: AbortSignal) =>
    systemClock.waitUntil(new Date(at.getTime() - this.offMs), signal);
}

describe('A server whose clock jumps', () => {
  let clock: OffClock;
  let server: RunningServer;
  beforeEach(async () => {
    clock = new OffClock();
    server = await RunningServer.start({ clock, config: { ca: { ttl: '3h' } } });
  });
  afterEach(async () => {
    await assertOrdered();
    await server[Symbol.asyncDispose]();
  });

  /** The audit log tells events in the order of their times, whatever the clock did. */
  const assertOrdered = async () => {
    const times = (await server.events()).map(({ at }) => Number(at?.seconds ?? 0n));
    assert.ok(times.length > 5);
    assert.deepEqual(
      times,
      [...times].sort((one, other) => one - other),
    );
  };
  /** An agent with an entry, and a call for its SVID. */
  const newAgent = async (path: string, expiresAt = 0n) => {
    const agent = await server.newAgent();
    const entry = await server.entryUnder(agent.svid, path, { expiresAt });
    const params = [{ entryId: entry.id, csr: createCsr(await generateKey('ec-p256')) }];
    const issue = async () => {
      const { results } = await agent.channel.client(SVID).batchNewX509SVID({ params }, CALL);
      return results[0];
    };
    return { ...agent, entry, issue };
  };
  const kinds = async () =>
    (await server.admin(AuthorityService).listAuthorities({}, CALL)).authorities
      .filter(({ kind }) => kind === 'x509')
      .map(({ state }) => state);
  const count = async () => (await server.admin(Entry).countEntries({}, CALL)).count;
  const soon = () => BigInt(Math.floor(Date.now() / 1000) + 600);

  it('an hour ahead: what has ended by then has ended, and comes back no more', async () => {
    const short = await newAgent('/short', soon());
    const { issue, channel } = await newAgent('/long');
    const { value: token } = await server.admin(Agent).createJoinToken({ ttl: 60 }, CALL);
    // Connections that are there: whom the server's SVID is new to does not believe its date.
    for (const call of [short.issue, issue]) assert.equal((await call())?.status?.code, 0);
    const stranger = await server.dial();
    await stranger.client(Bundle).getBundle({}, CALL);
    clock.offMs = HOUR_MS;
    assert.equal(await denialOf(issue()), Reason.AGENT_EXPIRED);
    await until(async () => (await count()) === 1);
    clock.offMs = 0;
    assert.equal(await denialOf(short.issue()), Reason.AGENT_EXPIRED);
    assert.equal(await denialOf(channel.client(Agent).renewAgent({}, CALL)), Reason.AGENT_EXPIRED);
    assert.equal(await count(), 1);
    const csr = createCsr(await generateKey('ec-p256'));
    const params = { data: { type: 'join_token', payload: Buffer.from(token) }, params: { csr } };
    async function* requests() {
      yield { step: { case: 'params' as const, value: params } };
    }
    const attested = async () => {
      for await (const { step } of stranger.client(Agent).attestAgent(requests(), CALL))
        assert.fail(step.case);
    };
    await assert.rejects(attested(), { status: 'INVALID_ARGUMENT' });
  });

  it('two hours ahead: the next authority is prepared, then signs; what was signed stays good', async () => {
    const { issue } = await newAgent('/long');
    const before = await server.bundle();
    assert.equal((await issue())?.status?.code, 0);
    clock.offMs = 2 * HOUR_MS;
    await until(async () => (await kinds()).length === 2);
    const after = await server.bundle();
    for (const { der } of before.x509Authorities)
      assert.ok(after.x509Authorities.some((one) => Buffer.compare(one.der, der) === 0));
  });

  it('an hour behind: it issues nothing that is dated back, and still ends what is due', async () => {
    const { issue } = await newAgent('/long');
    const at = Date.now();
    clock.offMs = -HOUR_MS;
    const result = await issue();
    const { notAfter } = parseCertificate(result?.svid?.certChain[0] ?? Buffer.of());
    assert.ok(notAfter.getTime() > at + 0.9 * HOUR_MS);
    const { entry } = await newAgent('/soon', BigInt(Math.ceil(Date.now() / 1000) + 1));
    await until(async () => (await count()) === 1);
    const gone = server.admin(Entry).getEntry({ id: entry.id }, CALL);
    await assert.rejects(gone, { status: 'NOT_FOUND' });
  });

  it('ten years ahead: it serves nobody, ends and forgets nothing, and goes on once it is right', async () => {
    const { issue } = await newAgent('/long', soon());
    const known = await kinds();
    clock.offMs = 10 * YEAR_MS;
    await assert.rejects(issue(), { status: 'UNAVAILABLE' });
    const health = await fetch(`http://${server.facts.health}/ready`);
    assert.equal(health.status, 503);
    assert.match(await health.text(), /the clock has leapt/);
    // The sweep looks every quarter of a second.
    await systemClock.wait(600, CALL.signal);
    assert.equal(await count(), 1);
    assert.deepEqual(await kinds(), known);
    clock.offMs = 0;
    assert.equal((await issue())?.status?.code, 0);
  });
});
