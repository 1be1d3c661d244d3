import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { createLogger } from '../../runtime/log.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { GatewayUnderTest, until } from '../../test/fakes/gateway-under-test.ts';
import type { Session, SessionDesk, SessionRequest } from '../session/session-desk.ts';
import { type Served, serveConnection } from './serve-connection.ts';

describe('serveConnection', () => {
  let clock: FakeClock;
  let socket: PassThrough;
  let disposed: number;
  let killing: AbortController;
  beforeEach(() => {
    clock = new FakeClock();
    socket = new PassThrough();
    disposed = 0;
    killing = new AbortController();
  });

  const connection = (): Served => ({ socket, address: '192.0.2.7:1' });
  const desk: SessionDesk = {
    open: async () =>
      ({
        signal: killing.signal,
        end: (reason: string) => killing.abort(new Error(reason)),
        [Symbol.asyncDispose]: async () => {
          disposed += 1;
        },
      }) as unknown as Session,
  };
  const request = {} as SessionRequest;
  const log = createLogger({ process: 'gateway', level: 'silent' });
  const serve = (
    protocol: (served: SessionDesk) => Promise<void>,
    signal = new AbortController().signal,
  ) =>
    serveConnection(
      { serve: (_, served) => protocol(served) },
      connection(),
      { desk, clock, log },
      signal,
    );
  const forever = () => new Promise<void>(() => {});

  it('closes the session and the socket of a protocol that forgot both', async () => {
    await serve(async (served) => {
      await served.open(request);
    });
    assert.deepEqual([disposed, socket.destroyed], [1, true]);
  });

  it('closes them when the protocol throws', async () => {
    await serve(async (served) => {
      await served.open(request);
      throw new Error('a bug');
    });
    assert.deepEqual([disposed, socket.destroyed], [1, true]);
  });

  it('takes the socket 750 ms after the end of a session that the protocol holds on to', async () => {
    const served = serve(async (watched) => {
      await watched.open(request);
      await forever();
    });
    await clock.advance(50);
    killing.abort();
    await clock.advance(700);
    assert.equal(socket.destroyed, false);
    await clock.advance(50);
    assert.deepEqual([disposed, socket.destroyed], [0, true]);
    await clock.advance(5_000);
    await served;
    assert.equal(disposed, 1);
  });

  it('ends the sessions when the gateway stops', async () => {
    const stopping = new AbortController();
    const served = serve(async (watched) => {
      await watched.open(request);
      await forever();
    }, stopping.signal);
    await clock.advance(50);
    stopping.abort();
    assert.equal(killing.signal.aborted, true);
    await clock.advance(6_000);
    await served;
    assert.deepEqual([disposed, socket.destroyed], [1, true]);
  });

  it('closes a session at once that opens after its connection has gone', async () => {
    let late: SessionDesk | undefined;
    await serve(async (watched) => {
      late = watched;
    });
    await assert.rejects(Promise.resolve(late?.open(request)), { code: 'UNAVAILABLE' });
    assert.equal(disposed, 1);
  });

  it('frees the place of a session whose client hangs', async () => {
    await using gateway = await GatewayUnderTest.start();
    const { client, id } = await gateway.open();
    client.say('hang');
    await client.line(1);
    gateway.server.revoke({ case: 'sessionId', value: id }, 'session.kill', 'over');
    await gateway.untilInTime(() => gateway.server.closed.length === 1);
    await until(() => gateway.server.closed[0]?.reason === 'over');
  });
});
