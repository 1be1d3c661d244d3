import { setMaxListeners } from 'node:events';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { entryInit } from '../fixtures/registry-world.ts';
import { CALL, type RunningServer } from '../fixtures/running-server.ts';

export interface PushedOptions {
  readonly server: RunningServer;
  readonly changesASecond: number;
  readonly seconds: number;
}

/**
 * Makes entries for one agent at a steady pace, nothing else changing meanwhile.
 * @returns for each, milliseconds from the sending of the request to the word on the agent's stream
 */
export async function createdToPushed(options: PushedOptions): Promise<number[]> {
  const { server, changesASecond, seconds } = options;
  // Each call that is under way listens.
  setMaxListeners(0, CALL.signal);
  const { svid, channel } = await server.newAgent();
  const words = channel.client(AgentService).watchEntries({}, CALL)[Symbol.asyncIterator]();
  const first = await words.next();
  if (first.done === true) throw new Error('the stream of changes ended');
  // Each entry counts one, and they are made in the order in which they were asked for.
  const before = first.value.seq;
  const askedMs: number[] = [];
  const tookMs: number[] = [];
  const count = changesASecond * seconds;
  const listening = (async () => {
    while (tookMs.length < count) {
      const word = await words.next();
      if (word.done === true) throw new Error('the stream of changes ended');
      const now = systemClock.monotonicMs();
      const told = Number(word.value.seq - before);
      while (tookMs.length < Math.min(told, askedMs.length))
        tookMs.push(now - (askedMs[tookMs.length] ?? now));
    }
  })();
  const entries = server.admin(Entry);
  const asking: Promise<unknown>[] = [];
  const started = systemClock.monotonicMs();
  while (asking.length < count) {
    const due = started + (asking.length * 1000) / changesASecond;
    await systemClock.wait(Math.max(due - systemClock.monotonicMs(), 0), CALL.signal);
    const path = `/bench/pushed/${asking.length}`;
    const init = entryInit({ path, parent: svid.id.path });
    askedMs.push(systemClock.monotonicMs());
    asking.push(entries.batchCreateEntry({ entries: [init] }, CALL));
  }
  await Promise.all([listening, ...asking]);
  await words.return?.();
  return tookMs;
}
