import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { Clock } from '../../../../../runtime/clock.ts';
import { systemClock } from '../../../../../runtime/clock.ts';
import type { Peers } from '../../../../workers/peers.ts';
import { cancelRequest } from '../wire/frontend-messages.ts';
import { CancelRegistry } from './cancel.ts';

const signal = AbortSignal.timeout(60_000);

/** A backend that keeps what it is told. */
async function backend() {
  const told: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      told.push(bytes.toString('hex'));
      socket.end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const at = server.address();
  if (at === null || typeof at === 'string') throw new Error('no port');
  return {
    told,
    address: { host: '127.0.0.1', port: at.port },
    [Symbol.dispose]: () => server.close(),
  };
}

const key = { processId: 4711, secret: Buffer.from('0badcafe', 'hex') };
const owner = { clientAddress: '192.0.2.1', spiffeId: 'spiffe://example.org/reporting' };

describe('CancelRegistry', () => {
  it('forwards with the key of the backend, which the client never sees', async () => {
    using server = await backend();
    const registry = new CancelRegistry(systemClock);
    const { secret } = registry.add({ key, address: server.address, ...owner });
    assert.notDeepEqual(secret, key.secret);
    await registry.cancel({ processId: 4711, secret }, owner, signal);
    assert.deepEqual(server.told, [cancelRequest(4711, key.secret).toString('hex')]);
  });

  it('takes the key from nobody else, and not after the end of the session', async () => {
    using server = await backend();
    const registry = new CancelRegistry(systemClock);
    const { secret, remove } = registry.add({ key, address: server.address, ...owner });
    const packet = { processId: 4711, secret };
    await registry.cancel(packet, { clientAddress: '192.0.2.2' }, signal);
    await registry.cancel(packet, { ...owner, spiffeId: 'spiffe://example.org/other' }, signal);
    await registry.cancel({ ...packet, processId: 4712 }, owner, signal);
    await registry.cancel({ ...packet, secret: key.secret }, owner, signal);
    remove();
    await registry.cancel(packet, owner, signal);
    assert.deepEqual(server.told, []);
  });

  it('keeps two sessions apart whose backends have the same process id', async () => {
    using one = await backend();
    using other = await backend();
    const registry = new CancelRegistry(systemClock);
    registry.add({ key, address: one.address, ...owner });
    const { secret } = registry.add({ key, address: other.address, ...owner });
    await registry.cancel({ processId: 4711, secret }, owner, signal);
    assert.deepEqual([one.told.length, other.told.length], [0, 1]);
  });

  it('G35 stops listening to an address that guesses, for a minute', async () => {
    using server = await backend();
    let nowMs = 0;
    const clock: Clock = { ...systemClock, monotonicMs: () => nowMs };
    const registry = new CancelRegistry(clock);
    const { secret } = registry.add({ key, address: server.address, ...owner });
    const guesser = { clientAddress: owner.clientAddress };
    for (let guess = 0; guess < 100_000; guess += 1) {
      const wrong = Buffer.alloc(4);
      wrong.writeUInt32BE(guess);
      if (!wrong.equals(secret)) {
        await registry.cancel({ processId: 4711, secret: wrong }, guesser, signal);
      }
    }
    await registry.cancel({ processId: 4711, secret }, guesser, signal);
    assert.deepEqual(server.told, [], 'the right one comes too late');
    nowMs = 60_001;
    await registry.cancel({ processId: 4711, secret }, guesser, signal);
    assert.equal(server.told.length, 1);
  });

  it('takes late requests of ended sessions for no guesses', async () => {
    using server = await backend();
    const registry = new CancelRegistry(systemClock);
    const ended = registry.add({ key, address: server.address, ...owner });
    ended.remove();
    for (let late = 0; late < 1000; late += 1) {
      await registry.cancel({ processId: 4711, secret: ended.secret }, owner, signal);
    }
    assert.deepEqual(server.told, []);
    const { secret } = registry.add({ key, address: server.address, ...owner });
    await registry.cancel({ processId: 4711, secret }, owner, signal);
    assert.equal(server.told.length, 1);
  });

  describe('in one of several processes', () => {
    /** Registries that hand requests to each other, as the processes of one gateway do. */
    function processes(count: number): CancelRegistry[] {
      const handlers: ((message: unknown) => Promise<void>)[] = [];
      return Array.from({ length: count }, (_, index) => {
        const peers: Peers = {
          index,
          count,
          tell: async (to, message) => handlers[to]?.(structuredClone(message)),
          onTold: (handle) => {
            handlers[index] = handle;
          },
        };
        return new CancelRegistry(systemClock, peers);
      });
    }

    it('P14: cancels a session of another process, for its own client alone', async () => {
      using server = await backend();
      const [one, other, third] = processes(3);
      const added = one?.add({ key, address: server.address, ...owner });
      const packet = { processId: 4711, secret: added?.secret ?? Buffer.alloc(4) };
      await third?.cancel(packet, { clientAddress: '192.0.2.2' }, signal);
      await third?.cancel(packet, { ...owner, spiffeId: 'spiffe://example.org/other' }, signal);
      assert.deepEqual(server.told, []);
      await other?.cancel(packet, owner, signal);
      assert.deepEqual(server.told, [cancelRequest(4711, key.secret).toString('hex')]);
      added?.remove();
      await other?.cancel(packet, owner, signal);
      assert.equal(server.told.length, 1);
    });

    it('G35: gives who guesses no more guesses than one process does', async () => {
      using server = await backend();
      const registries = processes(4);
      const added = registries[1]?.add({ key, address: server.address, ...owner });
      const secret = added?.secret ?? Buffer.alloc(4);
      const guesser = { clientAddress: owner.clientAddress };
      for (let guess = 0; guess < 1000; guess += 1) {
        const wrong = Buffer.alloc(4);
        wrong.writeUInt32BE(guess);
        if (wrong.equals(secret)) continue;
        const packet = { processId: 4711, secret: wrong };
        await registries[(guess >> 2) % 4]?.cancel(packet, guesser, signal);
      }
      for (const registry of registries) {
        await registry.cancel({ processId: 4711, secret }, guesser, signal);
      }
      assert.deepEqual(server.told, [], 'the right one comes too late');
    });
  });

  it('survives a backend that is gone', async () => {
    const registry = new CancelRegistry(systemClock);
    const address = { host: '127.0.0.1', port: 1 };
    const { secret } = registry.add({ key, address, ...owner });
    await assert.doesNotReject(registry.cancel({ processId: 4711, secret }, owner, signal));
  });
});
