import assert from 'node:assert/strict';
import { AgentWakes } from './agent-wakes.ts';

describe('AgentWakes', () => {
  const agent = (name: string, ...racks: string[]) => ({
    id: `spiffe://example.org/spire/agent/x/${name}`,
    selectors: racks.map((value) => ({ type: 'x', value })),
  });
  const nobody = { ids: new Set<string>(), aliases: [] };

  it('wakes each wait of the agents that are named, once for a change', () => {
    const wakes = new AgentWakes();
    using first = wakes.open(agent('a'));
    using second = wakes.open(agent('a'));
    using other = wakes.open(agent('b'));
    const named = { ...nobody, ids: new Set([agent('a').id]) };
    wakes.wake([named, named]);
    const counts = [first, second, other].map(({ count }) => count.value);
    assert.deepEqual(counts, [1n, 1n, 0n]);
  });

  it('wakes the agents that have all selectors of an alias', () => {
    const wakes = new AgentWakes();
    using both = wakes.open(agent('a', 'r1', 'r2'));
    using one = wakes.open(agent('b', 'r1'));
    wakes.wake([{ ...nobody, aliases: [['x:r1', 'x:r2']] }]);
    wakes.wake([{ ...nobody, aliases: [[`spiffe_id:${agent('b').id}`]] }]);
    assert.deepEqual([both.count.value, one.count.value], [1n, 1n]);
  });

  it('wakes everybody where to find out whom would take longer', () => {
    const wakes = new AgentWakes();
    const all = Array.from({ length: 100 }, (_, n) => wakes.open(agent(`${n}`)));
    wakes.wake([{ ...nobody, aliases: Array.from({ length: 600 }, () => ['x:none']) }]);
    assert.ok(all.every(({ count }) => count.value === 1n));
  });

  it('forgets who waits no more', () => {
    const wakes = new AgentWakes();
    const gone = wakes.open(agent('a'));
    gone[Symbol.dispose]();
    gone[Symbol.dispose]();
    wakes.wakeAll();
    assert.deepEqual([gone.count.value, wakes.size], [0n, 0]);
  });
});
