import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseTrustDomain, SpiffeId } from '../identity/spiffe-id.ts';
import { Agent } from '../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { systemClock } from '../runtime/clock.ts';
import { FakeAuthority } from '../test/fakes/fake-authority.ts';
import { FakeSpireServer } from '../test/fakes/spire-server.ts';
import { ServerLink } from './server-link.ts';

const AGENT = SpiffeId.parse('spiffe://example.org/spire/agent/join_token/jt-1');

describe('ServerLink', () => {
  const setUp = async (body: (link: ServerLink, server: FakeSpireServer) => Promise<void>) => {
    const authority = await FakeAuthority.create(parseTrustDomain('example.org'));
    await using server = await FakeSpireServer.start({ authority });
    await using link = new ServerLink({
      address: server.address,
      clock: systemClock,
      svid: await authority.issue(AGENT),
      bundle: authority.bundle.value,
    });
    await body(link, server);
  };
  const postStatus = (link: ServerLink) =>
    link.call((channel) =>
      channel.client(Agent).postStatus({}, { signal: AbortSignal.timeout(5000) }),
    );

  it('lets running calls end before it uses another SVID, and holds back the next until then', () =>
    setUp(async (link, server) => {
      await postStatus(link);
      const order: string[] = [];
      const running = link.call(async (channel) => {
        await sleep(100);
        await channel.client(Agent).postStatus({}, { signal: AbortSignal.timeout(5000) });
        order.push('running');
      });
      const { authority } = server;
      const renewed = await authority.issue(AGENT);
      const replaced = link.replace(renewed, authority.bundle.value).then(() => order.push('new'));
      const next = postStatus(link).then(() => order.push('next'));
      await Promise.all([running, replaced, next]);
      assert.deepEqual(order, ['running', 'new', 'next']);
      assert.equal(server.serials[0], server.serials[1]);
      assert.equal(server.serials[2], renewed.serial);
    }));

  it('ends lent streams when it is replaced', () =>
    setUp(async (link, { authority }) => {
      const { replaced } = await link.stream();
      await link.replace(await authority.issue(AGENT), authority.bundle.value);
      assert.equal(replaced.aborted, true);
      assert.equal((await link.stream()).replaced.aborted, false);
    }));

  it('makes an SVID while no call is under way, and goes on as before if that fails', () =>
    setUp(async (link, server) => {
      const { authority } = server;
      const order: string[] = [];
      const running = link.call(async () => {
        await sleep(50);
        order.push('running');
      });
      const failed = link.replaceBy(async () => {
        order.push('made');
        await sleep(50);
        throw new Error('cannot be made');
      });
      const next = postStatus(link).then(() => order.push('next'));
      await assert.rejects(failed, /cannot be made/);
      await Promise.all([running, next]);
      assert.deepEqual(order, ['running', 'made', 'next']);
      assert.equal((await link.stream()).replaced.aborted, false);
      const svid = await authority.issue(AGENT);
      await link.replaceBy(async () => ({ svid, bundle: authority.bundle.value }));
      await postStatus(link);
      assert.equal(server.serials.at(-1), svid.serial);
    }));

  it('goes on after a call that failed', () =>
    setUp(async (link, { authority }) => {
      const failing = link.call(async () => {
        throw new Error('failed');
      });
      await assert.rejects(failing, /failed/);
      await link.replace(await authority.issue(AGENT), authority.bundle.value);
      await postStatus(link);
    }));
});
