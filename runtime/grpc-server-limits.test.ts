import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Metadata, type ServiceError } from '@grpc/grpc-js';
import { EchoHarness } from '../test/fixtures/echo-harness.ts';
import { Fault } from './fault.ts';
import { RpcError } from './grpc-client.ts';

const text = (value: string) => ({ value });
const alive = () => new AbortController().signal;

describe('RpcServer', () => {
  let harness: EchoHarness;

  beforeEach(async () => {
    harness = await EchoHarness.open();
  });

  afterEach(() => harness[Symbol.asyncDispose]());

  it('refuses a call by its headers, before a message is there', async () => {
    await harness.serve({ once: async (request) => request }, () => {
      throw new Fault('PERMISSION_DENIED', 'not you');
    });
    const session = http2.connect('http://localhost', {
      createConnection: () => net.connect(harness.path),
    });
    const stream = session.request(
      {
        ':method': 'POST',
        ':path': '/test.Echo/Once',
        'content-type': 'application/grpc',
        te: 'trailers',
      },
      { endStream: false },
    );
    const [headers] = await once(stream, 'response');
    assert.equal(headers['grpc-status'], '7');
    session.destroy();
  });

  it('ends a call whose first message does not come', async () => {
    await harness.serve({ once: async (request) => request }, undefined, {
      firstMessageTimeoutMs: 100,
    });
    const session = http2.connect('http://localhost', {
      createConnection: () => net.connect(harness.path),
    });
    const stream = session.request(
      { ':method': 'POST', ':path': '/test.Echo/Once', 'content-type': 'application/grpc' },
      { endStream: false },
    );
    const [headers] = await once(stream, 'response');
    assert.equal(headers['grpc-status'], '3');
    session.destroy();
    const client = harness.connect();
    await sleep(150);
    const reply = await client.once(text('still here'), { signal: alive() });
    assert.equal(reply.value, 'still here');
  });

  it('refuses a message above the limit and metadata above 16 KiB', async () => {
    await harness.serve({ once: async (request) => request }, undefined, { maxReceiveBytes: 1000 });
    const client = harness.connect();
    await assert.rejects(client.once(text('x'.repeat(1001)), { signal: alive() }), {
      status: 'RESOURCE_EXHAUSTED',
    });
    const metadata = { x: 'y'.repeat(17_000) };
    await assert.rejects(client.once(text(''), { signal: alive(), metadata }), {
      status: 'RESOURCE_EXHAUSTED',
      faultCode: 'RESOURCE_EXHAUSTED',
    });
  });

  it('answers INTERNAL for bytes that are no message', async () => {
    await harness.serve({ once: async (request) => request });
    const error = await new Promise<ServiceError | null>((resolve) => {
      const bytes = (b: Buffer) => b;
      const garbage = Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]);
      harness
        .foreign()
        .makeUnaryRequest('/test.Echo/Once', bytes, bytes, garbage, new Metadata(), resolve);
    });
    assert.equal(error?.code, 13);
  });

  it('serves 1000 parallel calls', async () => {
    await harness.serve({
      once: async ({ value }) => {
        await sleep(5);
        return text(value);
      },
    });
    const client = harness.connect();
    const numbers = Array.from({ length: 1000 }, (_, n) => String(n));
    const replies = await Promise.all(
      numbers.map((n) => client.once(text(n), { signal: alive() })),
    );
    assert.deepEqual(
      replies.map(({ value }) => value),
      numbers,
    );
  });

  it('keeps nothing of peers that send garbage', async () => {
    const server = await harness.serve({ once: async (request) => request });
    for (let n = 0; n < 50; n++) {
      const socket = net.connect(harness.path);
      socket.on('error', () => undefined);
      socket.end(n % 2 === 0 ? Buffer.alloc(1000, n) : 'GET / HTTP/1.1\r\n\r\n');
      socket.resume();
      await once(socket, 'close');
    }
    await sleep(20);
    assert.equal(server.connections, 0);
    const reply = await harness.connect().once(text('well'), { signal: alive() });
    assert.equal(reply.value, 'well');
  });

  it('cuts a connection that sends no preface in time', async () => {
    const server = await harness.serve({ once: async (request) => request }, undefined, {
      prefaceTimeoutMs: 200,
    });
    const client = harness.connect();
    await client.once(text(''), { signal: alive() });
    const silent = net.connect(harness.path);
    const half = net.connect(harness.path);
    half.write('PRI * HTTP/2.0\r\n');
    const started = Date.now();
    await Promise.all([once(silent.resume(), 'close'), once(half.resume(), 'close')]);
    const took = Date.now() - started;
    await sleep(20);
    assert.ok(took > 150 && took < 2000, `took ${took} ms`);
    assert.equal(server.connections, 1, 'the one that speaks stays');
  });

  it('disconnects the peers it is told', async () => {
    const server = await harness.serve({
      async *many(_, { signal }) {
        yield text('1');
        await once(signal, 'abort');
      },
    });
    await assert.rejects(async () => {
      for await (const _ of harness.connect().many(text(''), { signal: alive() })) {
        server.disconnect(({ pid }) => pid === 1);
        assert.equal(server.connections, 1);
        server.disconnect(({ pid }) => pid === process.pid);
      }
    }, RpcError);
    assert.equal(server.connections, 0);
  });

  it('aborts calls and closes within a second when disposed', async () => {
    const server = await harness.serve({
      async *many(_, { signal }) {
        yield text('1');
        await once(signal, 'abort');
      },
      once: () => new Promise(() => undefined),
    });
    const client = harness.connect();
    const stream = (async () => {
      for await (const _ of client.many(text(''), { signal: alive() }));
    })();
    const deaf = client.once(text(''), { signal: alive() });
    await sleep(50);
    const started = Date.now();
    const ends = Promise.allSettled([stream, deaf]);
    await server[Symbol.asyncDispose]();
    assert.ok(Date.now() - started < 1500);
    assert.equal(server.connections, 0);
    for (const end of await ends) {
      assert.equal(end.status, 'rejected');
      assert.equal((end.reason as RpcError).status, 'UNAVAILABLE');
    }
  });
});
