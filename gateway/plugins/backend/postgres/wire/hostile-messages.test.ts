import assert from 'node:assert/strict';
import { serialize } from 'pg-protocol';
import { systemClock } from '../../../../../runtime/clock.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import { Budget } from '../../../../session/budget.ts';
import { BACKEND_RULES, BackendReplies } from '../relay/backend-replies.ts';
import { CLIENT_RULES, ClientMessages } from '../relay/client-messages.ts';
import { Exchange } from '../relay/exchange.ts';
import { opaqueStatement, StatementLog } from '../relay/statement-log.ts';
import { authenticationOk, parameterStatus, readyForQuery } from './backend-messages.ts';
import { errorResponse } from './errors.ts';
import { type FrameHandler, type FrameRules, FrameStream } from './frames.ts';
import { cstring, int16, int32, message } from './message-body.ts';

const ROUNDS = 20_000;

/** Repeatable: a failure names its seed. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state % below;
  };
}

/** Both directions of a session, with a record that is thrown away. */
function session() {
  const exchange = new Exchange();
  const budget = new Budget(undefined, undefined);
  const counts = { bytesUp: 0, bytesDown: 0, rows: 0, statements: 0 };
  const log = new StatementLog({
    recorder: { write: () => undefined, sync: () => undefined },
    counts,
    budget,
    clock: systemClock,
    onStatement: () => undefined,
  });
  const client = new ClientMessages({
    exchange,
    log,
    describes: 'nothing',
    judge: () => opaqueStatement('read'),
    judgeLong: async () => opaqueStatement('read'),
    resume: () => undefined,
  });
  const common = { exchange, log, counts, budget, role: 'writ_1', mayListen: false };
  const backend = new BackendReplies({ ...common, guard: undefined });
  const direction = (rules: FrameRules, handler: { handle: FrameHandler }) => {
    const written: Buffer[] = [];
    const stream = new FrameStream(rules, (...args) => handler.handle(...args));
    return { push: (bytes: Buffer) => stream.push(bytes, (out) => written.push(out)), written };
  };
  return { up: direction(CLIENT_RULES, client), down: direction(BACKEND_RULES, backend), exchange };
}

function mutate(bytes: Buffer, random: (below: number) => number): Buffer {
  const changed = Buffer.from(bytes);
  for (let times = 1 + random(3); times > 0; times -= 1)
    changed[random(changed.length)] = random(256);
  const cut = random(4) === 0 ? random(changed.length) : changed.length;
  return changed.subarray(0, cut);
}

/** Pushes in pieces; a Fault is an answer, anything else is a defect. */
function pushAll(push: (bytes: Buffer) => void, bytes: Buffer, random: (below: number) => number) {
  try {
    for (let at = 0; at < bytes.length; ) {
      const next = at + 1 + random(bytes.length);
      push(bytes.subarray(at, next));
      at = next;
    }
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
  }
}

const spoken = Buffer.concat(
  [
    serialize.parse({ name: 's', text: 'select $1', types: [23] }),
    serialize.bind({ portal: 'p', statement: 's', values: ['1', null, Buffer.alloc(3)] }),
    serialize.describe({ type: 'S', name: 's' }),
    serialize.execute({ portal: 'p', rows: 2 }),
    serialize.close({ type: 'P', name: 'p' }),
    serialize.sync(),
    serialize.query('select 1'),
    serialize.copyData(Buffer.from('1\n')),
    serialize.copyDone(),
  ].map((bytes) => Buffer.from(bytes)),
);

const answered = Buffer.concat([
  message('1'),
  message('2'),
  message('t', int16(1), int32(23)),
  message('T', int16(1), cstring('c'), Buffer.alloc(18)),
  message('D', int16(1), int32(1), Buffer.from('1')),
  message('C', cstring('SELECT 1')),
  message('3'),
  readyForQuery('I'),
  parameterStatus('TimeZone', 'UTC'),
  errorResponse({ severity: 'ERROR', sqlstate: '22P02', message: 'x' }),
  message('G', Buffer.from([0, 0, 0])),
  authenticationOk(),
]);

describe('hostile messages', () => {
  it('G33 of a client end in a Fault or not at all, wherever the stream is cut', () => {
    for (let seed = 1; seed <= ROUNDS; seed += 1) {
      const random = randomFrom(seed);
      const { up } = session();
      assert.doesNotThrow(() => pushAll(up.push, mutate(spoken, random), random), `seed ${seed}`);
    }
  });

  it('G33 of a backend end in a Fault or not at all, wherever the stream is cut', () => {
    for (let seed = 1; seed <= ROUNDS; seed += 1) {
      const random = randomFrom(seed);
      const { up, down } = session();
      up.push(spoken.subarray(0, spoken.indexOf(Buffer.from(serialize.query('select 1')))));
      assert.doesNotThrow(
        () => pushAll(down.push, mutate(answered, random), random),
        `seed ${seed}`,
      );
    }
  });

  it('are answered by nothing: a backend that says more than it was asked is cut off', () => {
    for (const reply of [
      message('1'),
      message('C', cstring('SELECT 1')),
      message('D', int16(0)),
      message('T', int16(0)),
      message('G', Buffer.from([0, 0, 0])),
      readyForQuery('I'),
      errorResponse({ severity: 'ERROR', sqlstate: '22P02', message: 'x' }),
    ]) {
      const { down } = session();
      assert.throws(() => down.push(reply), { code: 'PROTOCOL_VIOLATION' });
      assert.deepEqual(down.written, []);
    }
  });

  it('cannot belong to a login, a notification or a function call once the session runs', () => {
    for (const reply of [
      authenticationOk(),
      ...['A', 'V', 'K', 'v', 'W'].map((type) => message(type)),
    ]) {
      const { up, down } = session();
      up.push(Buffer.from(serialize.query('select 1')));
      assert.throws(() => down.push(reply), { code: 'PROTOCOL_VIOLATION' });
    }
  });

  it('do not let a refused statement succeed', () => {
    const { up, down } = session();
    up.push(message('F', int32(1), int16(0), int16(0), int16(0)));
    assert.throws(() => down.push(message('C', cstring('SELECT 1'))), {
      code: 'PROTOCOL_VIOLATION',
    });
  });

  it('do not make the bookkeeping grow: what is answered is forgotten', () => {
    const { up, down, exchange } = session();
    for (let round = 0; round < 10_000; round += 1) {
      up.push(Buffer.from(serialize.sync()));
      down.push(readyForQuery('I'));
    }
    assert.equal(exchange.pendingCount, 0);
    assert.equal(exchange.pendingBytes, 0);
  });
});
