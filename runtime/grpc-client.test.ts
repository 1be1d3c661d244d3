import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { countListeners } from '../test/fixtures/count-listeners.ts';
import { Echo } from '../test/fixtures/grpc-echo.ts';
import { localhostCertificate, localhostKey } from '../test/fixtures/localhost-tls.ts';
import { Closers } from './closers.ts';
import { type Client, RpcChannel, RpcError, type TlsClientOptions } from './grpc-client.ts';
import { type Implementation, RpcServer } from './grpc-server.ts';
import { createLogger } from './log.ts';

type Replaceable<T> = { -readonly [K in keyof T]?: T[K] };

const text = (value: string) => ({ value });
const alive = () => new AbortController().signal;
const trusting: TlsClientOptions = {
  ca: [localhostCertificate],
  checkServerIdentity: () => undefined,
};

describe('RpcChannel', () => {
  let closers: Closers;
  let port: number;
  let sockets: Set<net.Socket>;
  let implementation: Replaceable<Implementation<typeof Echo, string>>;

  beforeEach(async () => {
    closers = new Closers();
    sockets = new Set();
    implementation = {};
    const server = new RpcServer<string, string>({
      guard: ({ peer }) => peer,
      log: createLogger({ process: 'server', level: 'silent' }),
      prefaceTimeoutMs: 200,
    });
    server.add(Echo, {
      once: (request, call) => implementation.once?.(request, call) ?? assert.fail(),
      many: (request, call) => implementation.many?.(request, call) ?? assert.fail(),
      talk: (requests, call) => implementation.talk?.(requests, call) ?? assert.fail(),
    });
    const listener = tls.createServer(
      {
        cert: localhostCertificate,
        key: localhostKey.export({ type: 'pkcs8', format: 'pem' }),
        ca: localhostCertificate,
        requestCert: true,
        rejectUnauthorized: false,
        ALPNProtocols: ['h2'],
        minVersion: 'TLSv1.3',
      },
      (socket) => {
        sockets.add(socket);
        server.inject(socket, socket.authorized ? 'certified' : 'anonymous');
      },
    );
    listener.on('tlsClientError', () => undefined);
    await once(listener.listen(0, '127.0.0.1'), 'listening');
    port = (listener.address() as net.AddressInfo).port;
    closers.defer(async () => {
      listener.close();
    });
    closers.defer(() => server[Symbol.asyncDispose]());
  });

  afterEach(() => closers[Symbol.asyncDispose]());

  const open = (options = trusting, host = '127.0.0.1'): RpcChannel => {
    const channel = RpcChannel.tls(`${host}:${port}`, options);
    closers.defer(() => channel[Symbol.asyncDispose]());
    return channel;
  };

  const connect = (options = trusting, host = '127.0.0.1'): Client<typeof Echo> =>
    open(options, host).client(Echo);

  it('calls over TLS, with and without a certificate of its own', async () => {
    implementation.once = async (_, { caller }) => text(caller);
    const anonymous = await connect().once(text(''), { signal: alive() });
    const certified = await connect({
      ...trusting,
      cert: localhostCertificate,
      key: localhostKey,
    }).once(text(''), { signal: alive() });
    assert.deepEqual([anonymous.value, certified.value], ['anonymous', 'certified']);
  });

  it('keeps its connection while nothing is called', async () => {
    implementation.once = async (request) => request;
    const client = connect();
    await client.once(text(''), { signal: alive() });
    await sleep(400);
    await client.once(text(''), { signal: alive() });
    assert.equal(sockets.size, 1);
  });

  it('asks the check about the server, by its name or, for an address, by a fixed one', async () => {
    implementation.once = async (request) => request;
    const asked: string[] = [];
    const options: TlsClientOptions = {
      ...trusting,
      checkServerIdentity: (host, { raw }) => {
        asked.push(`${host} ${raw.length > 100}`);
        return undefined;
      },
    };
    await connect(options).once(text(''), { signal: alive() });
    await connect(options, 'localhost').once(text(''), { signal: alive() });
    assert.deepEqual(asked, ['spire-server true', 'localhost true']);
  });

  it('sends nothing to a server that the check or the authorities refuse', async () => {
    implementation.once = async () => assert.fail('the server was called');
    const refusing = { ...trusting, checkServerIdentity: () => new Error('someone else') };
    for (const options of [refusing, { ...trusting, ca: [] }]) {
      const call = connect(options).once(text('secret'), { signal: alive() });
      await assert.rejects(call, { status: 'UNAVAILABLE' });
    }
  });

  it('accepts any server only when that is asked for by name', async () => {
    implementation.once = async (request) => request;
    const channel = RpcChannel.unverifiedTls(`127.0.0.1:${port}`);
    closers.defer(() => channel[Symbol.asyncDispose]());
    const reply = await channel.client(Echo).once(text('hi'), { signal: alive() });
    assert.equal(reply.value, 'hi');
  });

  it('fails with UNAVAILABLE where nobody listens', async () => {
    const channel = RpcChannel.unix('/nonexistent/socket');
    closers.defer(() => channel[Symbol.asyncDispose]());
    await assert.rejects(channel.client(Echo).once(text(''), { signal: alive() }), {
      name: 'RpcError',
      status: 'UNAVAILABLE',
    });
  });

  it('does not begin a call whose signal has aborted', async () => {
    const signal = AbortSignal.abort();
    const client = connect();
    await assert.rejects(client.once(text(''), { signal }), { status: 'CANCELLED' });
    await assert.rejects(async () => {
      for await (const _ of client.many(text(''), { signal })) assert.fail();
    }, new RpcError('CANCELLED', 'cancelled before it began'));
    assert.equal(sockets.size, 0);
  });

  it('ends a stream by throwing CANCELLED when its signal aborts', async () => {
    implementation.many = async function* (_, { signal }) {
      yield text('1');
      await once(signal, 'abort');
    };
    const stop = new AbortController();
    let got = '';
    await assert.rejects(
      async () => {
        for await (const { value } of connect().many(text(''), { signal: stop.signal })) {
          got += value;
          setTimeout(() => stop.abort(), 10);
        }
      },
      { status: 'CANCELLED' },
    );
    assert.equal(got, '1');
  });

  it('leaves no listener on a signal that outlives its calls', async () => {
    implementation.once = async (request) => request;
    implementation.many = async function* (request) {
      yield request;
    };
    const { signal } = new AbortController();
    const listeners = countListeners(signal);
    const client = connect();
    for (let n = 0; n < 5; n++) {
      await client.once(text(''), { signal });
      for await (const _ of client.many(text(''), { signal }));
    }
    assert.equal(listeners(), 0);
  });

  it('carries both directions of a stream at once', async () => {
    implementation.talk = async function* (requests) {
      for await (const { value } of requests) yield text(`${value}!`);
    };
    let answered = (): void => undefined;
    const requests = (async function* () {
      for (const value of ['a', 'b', 'c']) {
        const answer = new Promise<void>((resolve) => {
          answered = resolve;
        });
        yield text(value);
        await answer;
      }
    })();
    const got: string[] = [];
    for await (const { value } of connect().talk(requests, { signal: alive() })) {
      got.push(value);
      answered();
    }
    assert.deepEqual(got, ['a!', 'b!', 'c!']);
  });

  it('waits with its requests while the server does not read', async () => {
    implementation.talk = async function* (requests) {
      let read = 0;
      for await (const _ of requests) {
        read += 1;
        if (read === 1) await sleep(100);
        if (read === 200) break;
      }
      yield text(String(read));
    };
    let sent = 0;
    const requests = (async function* () {
      for (; ; sent++) yield text('x'.repeat(10_000));
    })();
    let early = 0;
    setTimeout(() => {
      early = sent;
    }, 80);
    for await (const _ of connect().talk(requests, { signal: alive() }));
    assert.ok(early > 0 && early < 150, `${early} sent before the server read on`);
  });

  it('throws the error of its requests as it is, and cancels the call', async () => {
    let aborted: Promise<unknown> | undefined;
    implementation.talk = async function* (_, { signal }) {
      aborted = once(signal, 'abort');
      yield text('1');
      await aborted;
    };
    const broken = new Error('no more paper');
    const requests = (async function* () {
      while (aborted === undefined) {
        yield text('a');
        await sleep(5);
      }
      throw broken;
    })();
    await assert.rejects(async () => {
      for await (const _ of connect().talk(requests, { signal: alive() }));
    }, broken);
    await aborted;
  });

  it('lets go of its requests when the server ends the call', async () => {
    implementation.talk = async function* () {
      yield text('bye');
    };
    let returned = false;
    const requests: AsyncIterable<{ value: string }> = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise(() => undefined),
        return: async () => {
          returned = true;
          return { done: true, value: undefined };
        },
      }),
    };
    for await (const _ of connect().talk(requests, { signal: alive() }));
    await sleep(0);
    assert.ok(returned);
  });

  it('fails a call whose connection breaks, and connects again for the next', async () => {
    implementation.once = async ({ value }, { signal }) => {
      if (value === 'wait') await once(signal, 'abort');
      return text('');
    };
    const client = connect();
    const call = client.once(text('wait'), { signal: alive() });
    await sleep(100);
    for (const socket of sockets) socket.destroy();
    await assert.rejects(call, { name: 'RpcError', status: 'UNAVAILABLE' });
    await client.once(text(''), { signal: alive() });
  });

  it('cancels its calls, begins no more and leaves when disposed', async () => {
    implementation.once = async (request, { signal }) => {
      await once(signal, 'abort');
      return request;
    };
    implementation.many = async function* (_, { signal }) {
      yield text('1');
      await once(signal, 'abort');
    };
    const channel = open();
    const client = channel.client(Echo);
    const unary = client.once(text(''), { signal: alive() });
    const stream = (async () => {
      for await (const _ of client.many(text(''), { signal: alive() }));
    })();
    await sleep(100);
    const [socket] = sockets;
    assert.ok(socket);
    const left = once(socket, 'close');
    const ends = [unary, stream].map((end) => assert.rejects(end, { status: 'CANCELLED' }));
    await channel[Symbol.asyncDispose]();
    await Promise.all(ends);
    await left;
    const late = client.once(text(''), { signal: alive() });
    await assert.rejects(late, new RpcError('CANCELLED', 'the channel is closed'));
  });

  it('notices a dead peer within 10 s', async function () {
    this.timeout(15_000);
    implementation.many = async function* (_, { signal }) {
      yield text('1');
      await once(signal, 'abort');
    };
    // Stands between the two and falls silent, as a host without power does.
    const between = net.createServer((near) => {
      const far = net.connect(port, '127.0.0.1');
      near.pipe(far).pipe(near);
      for (const socket of [near, far]) socket.on('error', () => undefined);
      closers.defer(async () => {
        near.destroy();
        far.destroy();
      });
      setTimeout(() => {
        near.unpipe();
        far.unpipe();
        near.pause();
        far.pause();
      }, 500);
    });
    await once(between.listen(0, '127.0.0.1'), 'listening');
    closers.defer(async () => {
      between.close();
    });
    const { port: silent } = between.address() as net.AddressInfo;
    const channel = RpcChannel.tls(`127.0.0.1:${silent}`, trusting);
    closers.defer(() => channel[Symbol.asyncDispose]());
    const started = Date.now();
    await assert.rejects(
      async () => {
        for await (const _ of channel.client(Echo).many(text(''), { signal: alive() }));
      },
      { status: 'UNAVAILABLE' },
    );
    const took = Date.now() - started;
    assert.ok(took > 5000 && took < 12_000, `took ${took} ms`);
  });
});
