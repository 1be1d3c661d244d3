import assert from 'node:assert/strict';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import type { PermissionDeniedDetails_Reason as Reason } from '../../proto/gen/spire/api/types/status_pb.ts';
import { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { Watched } from '../../runtime/watched.ts';
import { entryInit, RegistryWorld, TD } from '../../test/fixtures/registry-world.ts';
import { CALL, denialOf, RunningServer, until } from '../../test/fixtures/running-server.ts';
import type { Agents } from '../attestation/agents.ts';
import type { AgentCaller } from './callers.ts';
import { watchEntriesService } from './watch-entries.ts';

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

  it('tells a crowd of agents together of what changes shortly after another', async () => {
    await using world = await RegistryWorld.open();
    const { changes, authority } = world;
    const gaps: { readonly milliseconds: number; end(): void }[] = [];
    const gapBegun = new Watched(0);
    const { watchEntries } = watchEntriesService({
      ...{ changes, bundle: authority.bundle },
      agents: { recheck: async () => undefined } as unknown as Agents,
      clock: {
        wait: (milliseconds) =>
          new Promise((end) => {
            gaps.push({ milliseconds, end });
            gapBegun.set(gaps.length);
          }),
      },
    });
    const crowd = Array.from({ length: 1000 }, (_, n) =>
      changes.wakes.open({ id: `spiffe://${TD}/spire/agent/x509pop/${n}`, selectors: [] }),
    );
    const record = await world.attest('a');
    const caller = { kind: 'agent', record } as AgentCaller;
    const { signal } = CALL;
    const watch = watchEntries({} as never, { caller, signal } as never)[Symbol.asyncIterator]();
    await watch.next();
    const second = watch.next();
    for await (const count of gapBegun.values(signal)) if (count === 1) break;
    for (let n = 0; n < 20; n += 1) await world.createEntry(entryInit({ path: `/w${n}` }));
    assert.equal(await Promise.race([second, 'nothing yet']), 'nothing yet');
    gaps[0]?.end();
    const { seq } = (await second).value;
    assert.equal(seq, changes.head.value + authority.bundle.value.sequenceNumber);
    assert.equal(gaps[0]?.milliseconds, 500);
    await watch.return?.();
    for (const one of crowd) one[Symbol.dispose]();
    assert.equal(changes.wakes.size, 0);
  });
});
