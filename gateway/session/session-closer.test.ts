import assert from 'node:assert/strict';
import { RpcError } from '../../runtime/grpc-client.ts';
import { createLogger } from '../../runtime/log.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { SessionCloser } from './session-closer.ts';

describe('SessionCloser', () => {
  let clock: FakeClock;
  let asked: string[];
  beforeEach(() => {
    clock = new FakeClock();
    asked = [];
  });

  const closerWith = (answer: () => unknown) => {
    const closeSession = async ({ sessionId }: { sessionId?: string }) => {
      asked.push(sessionId ?? '');
      return answer() as never;
    };
    const api = () => ({ closeSession }) as never;
    const log = createLogger({ process: 'gateway', level: 'silent' });
    return new SessionCloser({ api, clock, log });
  };
  const failing = (status: string) => () => {
    throw new RpcError(status, 'no');
  };

  it('tells the end of a session until the server has it', async () => {
    let failures = 3;
    const closer = closerWith(() => {
      failures -= 1;
      return failures >= 0 ? failing('UNAVAILABLE')() : {};
    });
    closer.close({ sessionId: 's_1' });
    await clock.advance(2_000);
    assert.deepEqual(asked, ['s_1', 's_1', 's_1', 's_1']);
    await closer.drain(AbortSignal.timeout(1000));
  });

  it('does not ask again where the answer will not change', async () => {
    const closer = closerWith(failing('NOT_FOUND'));
    closer.close({ sessionId: 's_1' });
    await closer.drain(AbortSignal.timeout(1000));
    assert.deepEqual(asked, ['s_1']);
  });

  it('asks for eight at once at most, and for all', async () => {
    const answers: ((value: unknown) => void)[] = [];
    const closer = closerWith(() => new Promise((resolve) => answers.push(resolve)));
    for (let n = 0; n < 20; n += 1) closer.close({ sessionId: `s_${n}` });
    assert.equal(asked.length, 8);
    const drained = closer.drain(AbortSignal.timeout(1000));
    while (answers.length > 0) {
      for (const answer of answers.splice(0)) answer({});
      await new Promise(setImmediate);
    }
    await drained;
    assert.equal(new Set(asked).size, 20);
  });

  it('gives up when its time to drain is over', async () => {
    const closer = closerWith(failing('UNAVAILABLE'));
    closer.close({ sessionId: 's_1' });
    const limit = new AbortController();
    const drained = closer.drain(limit.signal);
    limit.abort();
    await drained;
    const before = asked.length;
    await clock.advance(10_000);
    assert.equal(asked.length, before);
  });
});
