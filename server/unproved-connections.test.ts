import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { SpiffeId } from '../identity/spiffe-id.ts';
import type { SecureConnection } from '../identity/tls.ts';
import { type Clock, systemClock } from '../runtime/clock.ts';
import { TD } from '../test/fixtures/registry-world.ts';
import { UnprovedConnections } from './unproved-connections.ts';

describe('UnprovedConnections', () => {
  const never: Clock = { ...systemClock, wait: () => new Promise(() => undefined) };
  const connectionOf = (address: string, path?: string) => {
    const events = new EventEmitter();
    let ended = false;
    const destroy = () => {
      ended = true;
      events.emit('close');
    };
    const socket = Object.assign(events, { destroy });
    const peer = path === undefined ? undefined : { id: SpiffeId.parse(`spiffe://${TD}${path}`) };
    const connection = { peer, socket, address } as unknown as SecureConnection;
    return { connection, destroy, isEnded: () => ended };
  };

  it('admits a hundred of one address, and another once one has closed', () => {
    const unproved = new UnprovedConnections(never);
    const admit = (address: string, path?: string) => {
      const one = connectionOf(address, path);
      return { ...one, isIn: unproved.admit(one.connection) };
    };
    const held = Array.from({ length: 100 }, (_, port) => admit(`10.0.0.1:${port}`));
    assert.ok(held.every(({ isIn }) => isIn));
    assert.ok(!admit('10.0.0.1:200').isIn);
    assert.ok(!admit('10.0.0.1:201', '/workload').isIn);
    assert.ok(admit('10.0.0.2:1').isIn);
    assert.ok(admit('[::1]:1').isIn);
    for (const path of ['/spire/agent/join_token/a', '/writ/gateway/a'])
      assert.ok(admit('10.0.0.1:202', path).isIn);
    held[0]?.destroy();
    assert.ok(admit('10.0.0.1:203').isIn);
  });

  it('neither counts nor ends one where a call has proved a role', async () => {
    const waits: AbortSignal[] = [];
    const wait = (_: number, signal: AbortSignal) => {
      waits.push(signal);
      return new Promise<never>((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true });
      });
    };
    const unproved = new UnprovedConnections({ ...systemClock, wait });
    const all = Array.from({ length: 100 }, (_, port) => connectionOf(`10.0.0.1:${port}`, '/ops'));
    for (const { connection } of all) assert.ok(unproved.admit(connection));
    const first = all[0]?.connection ?? {};
    unproved.proved(first);
    unproved.proved(first);
    assert.deepEqual([waits[0]?.aborted, waits[1]?.aborted], [true, false]);
    assert.ok(unproved.admit(connectionOf('10.0.0.1:200').connection));
    assert.ok(!unproved.admit(connectionOf('10.0.0.1:201').connection));
    all[0]?.destroy();
    assert.ok(!unproved.admit(connectionOf('10.0.0.1:202').connection));
    unproved.proved(connectionOf('10.0.0.1:203').connection);
  });

  it('ends them after a minute, and leaves agents and gateways alone', async () => {
    const waited: number[] = [];
    const unproved = new UnprovedConnections({
      ...systemClock,
      wait: async (milliseconds) => {
        waited.push(milliseconds);
      },
    });
    const paths = [undefined, '/workload', '/spire/agent/join_token/a', '/writ/gateway/a'];
    const all = paths.map((path) => connectionOf('10.0.0.1:1', path));
    for (const { connection } of all) unproved.admit(connection);
    await sleep(1);
    assert.deepEqual(
      all.map(({ isEnded }) => isEnded()),
      [true, true, false, false],
    );
    assert.deepEqual(waited, [60_000, 60_000]);
  });
});
