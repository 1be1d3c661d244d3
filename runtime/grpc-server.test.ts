import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { EchoHarness } from '../test/fixtures/echo-harness.ts';
import { Echo } from '../test/fixtures/grpc-echo.ts';
import { Fault } from './fault.ts';
import { serviceDefinition } from './grpc.ts';
import { RpcError } from './grpc-client.ts';

const text = (value: string) => ({ value });
const alive = () => new AbortController().signal;

describe('RpcServer', () => {
  let harness: EchoHarness;

  beforeEach(async () => {
    harness = await EchoHarness.open();
  });

  afterEach(() => harness[Symbol.asyncDispose]());

  it('tells the handler its caller, method, metadata and request', async () => {
    await harness.serve({
      once: async ({ value }, { caller, method, metadata }) =>
        text(`${value} ${caller.pid === process.pid} ${method} ${metadata.get('x')?.join()}`),
    });
    const reply = await harness
      .connect()
      .once(text('hi'), { signal: alive(), metadata: { x: '1' } });
    assert.equal(reply.value, 'hi true /test.Echo/Once 1');
    assert.deepEqual(
      harness.outcomes.map(({ method, code }) => [method, code]),
      [['/test.Echo/Once', 'OK']],
    );
  });

  it('refuses by the guard, on every kind of call', async () => {
    await harness.serve({}, () => {
      throw new Fault('PERMISSION_DENIED', 'not you', { cause: 'the real reason' });
    });
    const client = harness.connect();
    const stays = (async function* () {
      yield text('a');
      await new Promise(() => undefined);
    })();
    const refused = { status: 'PERMISSION_DENIED', message: 'not you' };
    await assert.rejects(client.once(text(''), { signal: alive() }), refused);
    await assert.rejects(async () => {
      for await (const _ of client.many(text(''), { signal: alive() })) assert.fail();
    }, refused);
    await assert.rejects(async () => {
      for await (const _ of client.talk(stays, { signal: alive() })) assert.fail();
    }, refused);
    assert.equal(harness.outcomes.filter(({ code }) => code === 'PERMISSION_DENIED').length, 3);
    assert.ok(harness.lines.every((line) => line.includes('the real reason')));
  });

  it('answers UNIMPLEMENTED for a method that has no implementation', async () => {
    await harness.serve({});
    await assert.rejects(harness.connect().once(text(''), { signal: alive() }), {
      status: 'UNIMPLEMENTED',
    });
  });

  it('tells the peer nothing of a defect, and the log its stack', async () => {
    await harness.serve({
      once: async () => {
        throw new Error('the wheel fell off');
      },
    });
    await assert.rejects(harness.connect().once(text(''), { signal: alive() }), {
      status: 'INTERNAL',
      message: 'internal error',
      faultCode: 'INTERNAL',
    });
    assert.match(harness.lines.join(), /the wheel fell off.*grpc-server\.test\.ts/);
  });

  it('carries the code, message and details of a fault', async () => {
    const details = Uint8Array.of(8, 7);
    const message = `snow ☃, a lone \ud800 surrogate\nand 100%`;
    await harness.serve({
      once: async () => {
        throw new Fault('JOIN_TOKEN_INVALID', message, { details });
      },
    });
    const error = await harness
      .connect()
      .once(text(''), { signal: alive() })
      .catch((reason: unknown) => reason);
    assert.ok(error instanceof RpcError);
    assert.equal(error.status, 'INVALID_ARGUMENT');
    assert.equal(error.faultCode, 'JOIN_TOKEN_INVALID');
    assert.equal(error.message, 'snow ☃, a lone \ufffd surrogate\nand 100%');
    assert.deepEqual(Buffer.from(error.details ?? []), Buffer.from(details));
  });

  it('keeps a long message short enough for a header', async () => {
    await harness.serve({
      once: async () => {
        throw new Fault('NOT_FOUND', '☃'.repeat(100_000));
      },
    });
    await assert.rejects(
      harness.connect().once(text(''), { signal: alive() }),
      (error: RpcError) => {
        assert.equal(error.status, 'NOT_FOUND');
        return error.message.startsWith('☃☃') && Buffer.byteLength(error.message) <= 2051;
      },
    );
  });

  it('streams to the client with backpressure', async () => {
    let made = 0;
    await harness.serve({
      async *many() {
        for (; made < 10_000; made++) yield text('x'.repeat(10_000));
      },
    });
    let got = 0;
    let ahead = 0;
    for await (const { value } of harness.connect().many(text(''), { signal: alive() })) {
      if (got % 100 === 0) await sleep(1);
      ahead = Math.max(ahead, made - got);
      got += value.length / 10_000;
      if (got === 2000) break;
    }
    assert.ok(ahead < 500, `the handler was ${ahead} messages ahead`);
  });

  it('aborts the signal when the client cancels', async () => {
    const aborted: string[] = [];
    await harness.serve({
      async *many(_, { signal }) {
        yield text('1');
        await once(signal, 'abort');
        aborted.push('many');
      },
      once: async (_, { signal }) => {
        await once(signal, 'abort');
        aborted.push('once');
        return text('');
      },
    });
    const client = harness.connect();
    for await (const _ of client.many(text(''), { signal: alive() })) break;
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 50);
    await assert.rejects(client.once(text(''), { signal: stop.signal }), { status: 'CANCELLED' });
    await sleep(50);
    assert.deepEqual(aborted, ['many', 'once']);
    assert.ok(harness.outcomes.every(({ code }) => code === 'CANCELLED'));
    assert.equal(harness.lines.length, 0);
  });

  it('aborts the signal at the deadline of the client', async () => {
    let aborted = false;
    await harness.serve({
      once: async (_, { signal }) => {
        await once(signal, 'abort');
        aborted = true;
        throw signal.reason;
      },
    });
    await assert.rejects(harness.connect().once(text(''), { signal: alive(), timeoutMs: 60 }), {
      status: 'DEADLINE_EXCEEDED',
    });
    await sleep(60);
    assert.ok(aborted);
    assert.match(String(harness.outcomes[0]?.code), /DEADLINE_EXCEEDED|CANCELLED/);
  });

  it('tells a handler how long the client waits', async () => {
    const told: (number | undefined)[] = [];
    await harness.serve({
      once: async (_, { timeoutMs }) => {
        told.push(timeoutMs);
        return text('');
      },
    });
    const client = harness.connect();
    await client.once(text(''), { signal: alive(), timeoutMs: 5000 });
    const [timeoutMs = 0] = told;
    assert.ok(timeoutMs > 0 && timeoutMs <= 5000, String(timeoutMs));
  });

  it('lets a handler answer on after it has stopped reading', async () => {
    await harness.serve({
      async *talk(requests) {
        for await (const { value } of requests) {
          yield text(`first was ${value}`);
          break;
        }
        yield text('goodbye');
      },
    });
    const requests = (async function* () {
      yield text('a');
      yield text('b');
      await new Promise(() => undefined);
    })();
    const got: string[] = [];
    for await (const { value } of harness.connect().talk(requests, { signal: alive() }))
      got.push(value);
    assert.deepEqual(got, ['first was a', 'goodbye']);
  });

  it('joins what a client streams', async () => {
    await harness.serve({
      join: async (requests) => {
        const all: string[] = [];
        for await (const { value } of requests) all.push(value);
        return text(all.join(' '));
      },
    });
    const { join: method } = serviceDefinition(Echo);
    assert.ok(method);
    const reply = await new Promise<unknown>((resolve, reject) => {
      const call = harness
        .foreign()
        .makeClientStreamRequest(
          method.path,
          method.requestSerialize,
          method.responseDeserialize,
          (error, response) => (error === null ? resolve(response) : reject(error)),
        );
      for (const value of ['a', 'b', 'c']) call.write(text(value));
      call.end();
    });
    assert.equal((reply as { value: string }).value, 'a b c');
  });

  it('ends a request iterable by throwing when the client goes', async () => {
    let thrown: unknown;
    await harness.serve({
      async *talk(requests) {
        try {
          for await (const { value } of requests) yield text(value);
        } catch (error) {
          thrown = error;
          throw error;
        }
      },
    });
    const requests = (async function* () {
      yield text('a');
      await new Promise(() => undefined);
    })();
    for await (const _ of harness.connect().talk(requests, { signal: alive() })) break;
    await sleep(50);
    assert.ok(thrown instanceof Fault);
    assert.equal(harness.lines.length, 0);
  });
});
