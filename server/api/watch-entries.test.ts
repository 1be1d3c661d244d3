import assert from 'node:assert/strict';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import type { PermissionDeniedDetails_Reason as Reason } from '../../proto/gen/spire/api/types/status_pb.ts';
import { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { TD } from '../../test/fixtures/registry-world.ts';
import { CALL, denialOf, RunningServer, until } from '../../test/fixtures/running-server.ts';

describe('watchEntriesService', () => {
  let server: RunningServer;
  before(async () => {
    server = await RunningServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  it('tells an agent at once of a change, and ends its watch when it is banned', async () => {
    const { svid, channel } = await server.newAgent();
    const watch = channel.client(AgentService).watchEntries({}, CALL)[Symbol.asyncIterator]();
    const first = await watch.next();
    const second = watch.next();
    await server.entryUnder(svid, '/watched');
    assert.ok(((await second).value?.seq ?? 0n) > (first.value?.seq ?? 0n));
    const ended = (async () => {
      for (;;) if ((await watch.next()).done === true) return;
    })();
    await server.admin(Agent).banAgent({ id: { trustDomain: TD, path: svid.id.path } }, CALL);
    assert.equal(await denialOf(ended), 4 satisfies Reason);
  });

  it('lets an agent hold eight watches, and takes another once one has ended', async () => {
    const { channel } = await server.newAgent();
    const stops = Array.from({ length: 8 }, () => new AbortController());
    const watch = ({ signal }: AbortController) =>
      channel.client(AgentService).watchEntries({}, { signal })[Symbol.asyncIterator]().next();
    await Promise.all(stops.map(watch));
    await assert.rejects(watch(new AbortController()), { status: 'RESOURCE_EXHAUSTED' });
    stops[0]?.abort();
    let last = watch(new AbortController());
    await until(async () => {
      const isIn = await last.then(
        () => true,
        () => false,
      );
      if (!isIn) last = watch(new AbortController());
      return isIn;
    });
  });
});
