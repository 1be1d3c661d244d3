import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Metadata } from '@grpc/grpc-js';
import { Echo } from '../test/fixtures/grpc-echo.ts';
import { FAULTS, Fault, type FaultCode } from './fault.ts';
import { Encoded, faultStatus, pump, serviceDefinition, statusName, textMetadata } from './grpc.ts';

describe('serviceDefinition', () => {
  it('names paths and directions of every method', () => {
    const definitions = Object.entries(serviceDefinition(Echo)).map(
      ([name, { path, requestStream, responseStream }]) =>
        `${name} ${path} ${requestStream} ${responseStream}`,
    );
    assert.deepEqual(definitions, [
      'once /test.Echo/Once false false',
      'many /test.Echo/Many false true',
      'join /test.Echo/Join true false',
      'talk /test.Echo/Talk true true',
    ]);
  });

  it('turns messages into bytes and back', () => {
    const { once } = serviceDefinition(Echo);
    assert.ok(once);
    const bytes = once.requestSerialize({ value: 'hi' });
    assert.deepEqual(bytes, Buffer.from([10, 2, 104, 105]));
    assert.equal((once.responseDeserialize(bytes) as { value: string }).value, 'hi');
    const encoded = new Encoded(Echo.method.once.output, { value: 'hi' });
    assert.equal(once.responseSerialize(encoded), encoded.bytes);
    assert.deepEqual(encoded.bytes, bytes);
  });
});

describe('faultStatus', () => {
  it('gives every fault its gRPC status and its own code as a trailer', () => {
    for (const code of Object.keys(FAULTS) as FaultCode[]) {
      const status = faultStatus(new Fault(code, 'why', { cause: 'hidden' }));
      assert.equal(statusName(status.code), FAULTS[code].grpc);
      assert.deepEqual(status.metadata.getMap(), { 'writ-fault-code': code });
      assert.equal(status.details, 'why');
    }
  });
});

describe('textMetadata', () => {
  it('gives text alone, and refuses above 16 KiB, binary values counted', () => {
    const metadata = new Metadata();
    metadata.add('a', '1');
    metadata.add('a', '2');
    metadata.add('b-bin', Buffer.alloc(1000));
    assert.deepEqual(textMetadata(metadata).get('a'), ['1', '2']);
    assert.deepEqual(textMetadata(metadata).get('b-bin'), []);
    metadata.add('b-bin', Buffer.alloc(16_000));
    assert.throws(() => textMetadata(metadata), { code: 'RESOURCE_EXHAUSTED' });
  });
});

describe('pump', () => {
  const sinkOf = (highWaterMark: number, delayMs = 0) => {
    const written: string[] = [];
    const sink = new Writable({
      highWaterMark,
      write: (chunk: Buffer, _, done) => {
        written.push(chunk.toString());
        setTimeout(done, delayMs);
      },
    });
    return { sink, written };
  };
  const letters = async function* (made: string[], end: () => void) {
    try {
      for (const letter of 'abcdef') {
        made.push(letter);
        yield letter;
      }
    } finally {
      end();
    }
  };
  const encode = (text: string) => Buffer.from(text);

  it('writes all, no faster than the sink takes it', async () => {
    const { sink, written } = sinkOf(1, 5);
    const made: string[] = [];
    const done = pump(
      letters(made, () => undefined),
      encode,
      sink,
      new AbortController().signal,
    );
    await sleep(12);
    assert.ok(made.length < 6, 'it waits');
    await done;
    assert.equal(made.join(''), 'abcdef');
    sink.end();
    await sleep(40);
    assert.equal(written.join(''), 'abcdef');
  });

  it('lets go of its messages when the signal aborts while it waits for either side', async () => {
    const stop = new AbortController();
    let ended = false;
    const full = pump(
      letters([], () => {
        ended = true;
      }),
      encode,
      sinkOf(1, 10_000).sink,
      stop.signal,
    );
    let returned = false;
    const silent = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise<IteratorResult<string>>(() => undefined),
        return: async () => {
          returned = true;
          return { done: true as const, value: undefined };
        },
      }),
    };
    const waiting = pump(silent, encode, sinkOf(1).sink, stop.signal);
    await sleep(5);
    stop.abort();
    await Promise.all([full, waiting]);
    await sleep(0);
    assert.deepEqual([ended, returned], [true, true]);
  });

  it('throws what its messages throw, and lets go of them when one cannot be encoded', async () => {
    const { signal } = new AbortController();
    const broken = new Error('broken');
    const failing = (async function* () {
      yield 'a';
      throw broken;
    })();
    await assert.rejects(pump(failing, encode, sinkOf(1).sink, signal), broken);
    let ended = false;
    const end = () => {
      ended = true;
    };
    const refuse = () => {
      throw broken;
    };
    await assert.rejects(pump(letters([], end), refuse, sinkOf(1).sink, signal), broken);
    await sleep(0);
    assert.ok(ended);
  });
});
