import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { Fault } from '../../../../../runtime/fault.ts';
import { EarlyDial } from './early-dial.ts';

describe('EarlyDial', () => {
  let server: Server;
  let accepted: Socket[];
  let signal: AbortSignal;
  beforeEach(async () => {
    signal = AbortSignal.timeout(20_000);
    accepted = [];
    server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.resume();
      accepted.push(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterEach(() => {
    for (const socket of accepted) socket.destroy();
    server.close();
  });

  const address = () => {
    const at = server.address();
    if (at === null || typeof at === 'string') throw new Error('no port');
    return { host: '127.0.0.1', port: at.port };
  };

  it('makes one connection, for whoever takes it', async () => {
    const at = address();
    let taken: Socket;
    {
      using dialing = new EarlyDial();
      const started = dialing.start(at);
      taken = await dialing.take(at, signal);
      assert.equal(await started, taken);
    }
    assert.equal(accepted.length, 1);
    assert.equal(taken.destroyed, false, 'it is the taker’s now');
    taken.destroy();
  });

  it('makes it when it is taken, if nobody began before', async () => {
    const at = address();
    using dialing = new EarlyDial();
    (await dialing.take(at, signal)).destroy();
    assert.equal(accepted.length, 1);
  });

  it('closes one that leads elsewhere than where it is taken', async () => {
    using dialing = new EarlyDial();
    const before = await dialing.start(address());
    const at = address();
    const taken = await dialing.take(at, signal);
    if (!before.closed) await once(before, 'close');
    assert.deepEqual([accepted.length, taken.destroyed], [2, false]);
    taken.destroy();
  });

  it('closes a connection that nobody takes', async () => {
    const at = address();
    const dialing = new EarlyDial();
    const socket = await dialing.start(at);
    dialing[Symbol.dispose]();
    if (!socket.closed) await once(socket, 'close');
    const abandoned = new EarlyDial();
    const underWay = abandoned.start(at);
    abandoned[Symbol.dispose]();
    await underWay.then(
      async (late) => late.closed || (await once(late, 'close')),
      () => undefined,
    );
  });

  it('tells the taker of a failure, and nobody else', async () => {
    const at = address();
    await new Promise((resolve) => server.close(resolve));
    void new EarlyDial().start(at);
    await assert.rejects(new EarlyDial().take(at, signal), { code: 'BACKEND_FAILED' });
  });

  it('ends with the signal of its taker', async () => {
    const at = address();
    const late = new Fault('BACKEND_FAILED', 'too late');
    const dialing = new EarlyDial();
    await assert.rejects(dialing.take(at, AbortSignal.abort(late)), late);
  });
});
