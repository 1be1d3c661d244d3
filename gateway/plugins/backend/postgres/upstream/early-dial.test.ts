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
    let taken: Socket;
    {
      using dialing = new EarlyDial(address());
      const started = dialing.start();
      taken = await dialing.take(signal);
      assert.equal(await started, taken);
    }
    assert.equal(accepted.length, 1);
    assert.equal(taken.destroyed, false, 'it is the taker’s now');
    taken.destroy();
  });

  it('makes it when it is taken, if nobody began before', async () => {
    using dialing = new EarlyDial(address());
    (await dialing.take(signal)).destroy();
    assert.equal(accepted.length, 1);
  });

  it('closes a connection that nobody takes', async () => {
    const dialing = new EarlyDial(address());
    const socket = await dialing.start();
    dialing[Symbol.dispose]();
    if (!socket.closed) await once(socket, 'close');
    const abandoned = new EarlyDial(address());
    const underWay = abandoned.start();
    abandoned[Symbol.dispose]();
    await underWay.then(
      async (late) => late.closed || (await once(late, 'close')),
      () => undefined,
    );
  });

  it('tells the taker of a failure, and nobody else', async () => {
    const gone = address();
    await new Promise((resolve) => server.close(resolve));
    void new EarlyDial(gone).start();
    await assert.rejects(new EarlyDial(gone).take(signal), { code: 'BACKEND_FAILED' });
  });

  it('ends with the signal of its taker', async () => {
    const late = new Fault('BACKEND_FAILED', 'too late');
    const dialing = new EarlyDial(address());
    await assert.rejects(dialing.take(AbortSignal.abort(late)), late);
  });
});
