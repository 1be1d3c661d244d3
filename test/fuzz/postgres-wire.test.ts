/**
 * G33: mutated frames in both directions of a session, in pieces of every size. What goes on is read by
 * a walker that shares no code with the gateway's. `WRIT_FUZZ_FRAMES` sets how many each way (a million
 * before a release).
 */
import assert from 'node:assert/strict';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { serialize } from 'pg-protocol';
import {
  parameterStatus,
  readyForQuery,
} from '../../gateway/plugins/backend/postgres/wire/backend-messages.ts';
import { errorResponse } from '../../gateway/plugins/backend/postgres/wire/errors.ts';
import {
  cstring,
  int16,
  int32,
  message,
} from '../../gateway/plugins/backend/postgres/wire/message-body.ts';
import { Fault } from '../../runtime/fault.ts';
import { codecPair, type Direction } from '../fixtures/codec-pair.ts';

const FRAMES = Number(process.env.WRIT_FUZZ_FRAMES ?? 100_000);
const MOST_GROWTH_BYTES = 32 * 1024 * 1024;
const HEADER = 5;
const FUNCTION_CALL = 0x46;
/** The statement that goes in place of one that is refused, as a FunctionCall is or a text that is not UTF-8. */
const REFUSED = 'refused_by_writ';
/** Longest body that any message of the corpus can claim and still go on in parts. */
const HELD_BYTES = 64 * 1024;
const INTERESTING_LENGTHS = [-0x80000000, -1, 0, 3, 4, 5, 255, 65_536, 0x3fffffff, 0x7fffffff];

const SPOKEN = [
  serialize.parse({ name: 's', text: 'select $1', types: [23] }),
  serialize.bind({ portal: 'p', statement: 's', values: ['1', null, Buffer.alloc(3)] }),
  serialize.describe({ type: 'S', name: 's' }),
  serialize.describe({ type: 'P', name: 'p' }),
  serialize.execute({ portal: 'p', rows: 2 }),
  serialize.flush(),
  serialize.close({ type: 'P', name: 'p' }),
  serialize.sync(),
  serialize.query('select 1'),
  serialize.query('copy t from stdin'),
  serialize.copyData(Buffer.from('1\n')),
  serialize.copyDone(),
].map((bytes) => Buffer.from(bytes));

const row = message('D', int16(2), int32(1), Buffer.from('1'), int32(-1));
const described = message('T', int16(1), cstring('c'), Buffer.alloc(18));
const ANSWERED = [
  message('1'),
  message('2'),
  message('t', int16(1), int32(23)),
  described,
  described,
  row,
  row,
  message('s'),
  message('3'),
  readyForQuery('I'),
  described,
  message('N', Buffer.from('SNOTICE\0C00000\0Mx\0\0')),
  parameterStatus('TimeZone', 'UTC'),
  row,
  message('C', cstring('SELECT 1')),
  readyForQuery('I'),
  errorResponse({ severity: 'ERROR', sqlstate: '22P02', message: 'x' }),
  readyForQuery('E'),
];

type Random = (below: number) => number;

describe('G33 the PostgreSQL wire', () => {
  it(`hands on only whole frames of a client, of ${FRAMES} mutated ones, and stays as large as it was`, () => {
    flat(() =>
      eachMutation(SPOKEN, (conversation, random) => {
        const { up } = codecPair();
        return { direction: up, bytes: conversation, random };
      }),
    );
  }).timeout(FRAMES * 5);

  it(`hands on only whole frames of a backend, of ${FRAMES} mutated ones, and stays as large as it was`, () => {
    const asked = Buffer.concat(SPOKEN);
    flat(() =>
      eachMutation(ANSWERED, (conversation, random) => {
        const { up, down } = codecPair();
        up.push(asked);
        return { direction: down, bytes: conversation, random };
      }),
    );
  }).timeout(FRAMES * 5);

  it('does not depend on where the stream is cut, at any byte', () => {
    const asked = Buffer.concat(SPOKEN);
    const answer = Buffer.concat(ANSWERED);
    const expected = cutAt(asked, asked.length, answer, answer.length);
    assert.equal(expected, Buffer.concat([asked, answer]).toString('hex'));
    for (let at = 1; at < asked.length; at += 1) {
      assert.equal(cutAt(asked, at, answer, answer.length), expected, `client cut at ${at}`);
    }
    for (let at = 1; at < answer.length; at += 1) {
      assert.equal(cutAt(asked, asked.length, answer, at), expected, `backend cut at ${at}`);
    }
  });
});

/** What both directions hand on when each is cut in two, as hex. */
function cutAt(asked: Buffer, askedAt: number, answer: Buffer, answerAt: number): string {
  const { up, down } = codecPair();
  for (const piece of [asked.subarray(0, askedAt), asked.subarray(askedAt)]) up.push(piece);
  for (const piece of [answer.subarray(0, answerAt), answer.subarray(answerAt)]) down.push(piece);
  return Buffer.concat([...up.written, ...down.written]).toString('hex');
}

interface Trial {
  readonly direction: Direction;
  readonly bytes: Buffer;
  readonly random: Random;
}

/** One mutated frame in an otherwise sound conversation, FRAMES times. */
function eachMutation(
  frames: readonly Buffer[],
  begin: (conversation: Buffer, random: Random) => Trial,
): void {
  for (let seed = 1; seed <= FRAMES; seed += 1) {
    const random = randomFrom(seed);
    const at = random(frames.length);
    const conversation = Buffer.concat(
      frames.map((frame, index) => (index === at ? mutate(frame, random) : frame)),
    );
    const { direction, bytes } = begin(conversation, random);
    try {
      pushInPieces(direction, bytes, random);
    } catch (error) {
      if (!(error instanceof Fault)) throw new Error(`seed ${seed}`, { cause: error });
    }
    const sent = Buffer.concat(direction.written);
    const isSame = sent.equals(bytes.subarray(0, sent.length));
    assert.ok(isSame || sent.includes(REFUSED), `seed ${seed}: other bytes`);
    assert.ok(!asksForCall(sent), `seed ${seed}: a function call went on`);
    assert.ok(isWholeFrames(sent), `seed ${seed}: ${sent.toString('hex')}`);
  }
}

function pushInPieces({ push }: Direction, bytes: Buffer, random: Random): void {
  for (let at = 0; at < bytes.length; ) {
    const next = at + 1 + random(bytes.length);
    push(bytes.subarray(at, next));
    at = next;
  }
}

function asksForCall(bytes: Buffer): boolean {
  for (let at = 0; at + HEADER <= bytes.length; ) {
    if (bytes[at] === FUNCTION_CALL) return true;
    const length = bytes.readInt32BE(at + 1);
    if (length < 4) return false;
    at += length + 1;
  }
  return false;
}

/** Only a long row or piece of COPY data may go on before its end has come. */
function isWholeFrames(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < HEADER) return false;
    const length = bytes.readInt32BE(at + 1);
    if (length < 4) return false;
    const inParts = 'Dd'.includes(String.fromCharCode(bytes[at] ?? 0)) && length > HELD_BYTES;
    at += length + 1;
    if (at > bytes.length) return inParts;
  }
  return true;
}

function mutate(frame: Buffer, random: Random): Buffer {
  const changed = Buffer.from(frame);
  switch (random(6)) {
    case 0:
      changed.writeInt32BE(INTERESTING_LENGTHS[random(INTERESTING_LENGTHS.length)] ?? 0, 1);
      return changed;
    case 1:
      changed[0] = random(256);
      return changed;
    case 2:
      return changed.subarray(0, random(changed.length));
    case 3:
      return Buffer.concat([changed, changed.subarray(random(changed.length))]);
    case 4:
      changed.writeInt32BE(changed.length - 1 + random(9) - 4, 1);
      return changed;
    default:
      for (let times = 1 + random(3); times > 0; times -= 1) {
        changed[random(changed.length)] = random(256);
      }
      return changed;
  }
}

/** Repeatable: a failure names its seed. */
function randomFrom(seed: number): Random {
  let state = Math.imul(seed, 2_654_435_761) >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 0x1_0000_0000) * below);
  };
}

function flat(run: () => void): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  const before = process.memoryUsage();
  run();
  collect();
  const after = process.memoryUsage();
  for (const kind of ['heapUsed', 'arrayBuffers'] as const) {
    assert.ok(after[kind] - before[kind] < MOST_GROWTH_BYTES, `${kind} grew`);
  }
}
