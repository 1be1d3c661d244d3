import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { RecordedEventSchema } from '../proto/gen/writ/gateway/v1/recording_pb.ts';
import { Asciicast } from './asciicast.ts';

type RecordedEventInit = NonNullable<MessageInitShape<typeof RecordedEventSchema>['event']>;

const START = Date.UTC(2026, 0, 2, 3, 4, 5);

function linesOf(cast: Asciicast, ...events: [ms: number, event: RecordedEventInit][]): string[] {
  return events.flatMap(([ms, event]) => {
    const at = timestampFromDate(new Date(START + ms));
    return cast.lines(create(RecordedEventSchema, { at, event }));
  });
}

const output = (data: string | Buffer, channel = 1, isStderr = false): RecordedEventInit => ({
  case: 'channelOutput',
  value: { channel, isStderr, data: Buffer.from(data) },
});
const opened = (value: object): RecordedEventInit => ({
  case: 'channelOpened',
  value: { channel: 1, ...value },
});
const SHELL = opened({ kind: 'shell', terminal: { term: 'xterm', columns: 100, rows: 30 } });
const parsed = (lines: readonly string[]) => lines.map((line): unknown => JSON.parse(line));

describe('Asciicast', () => {
  it('is a header, then what a shell showed and when, and how its window changed', () => {
    const session = { spiffeId: 'spiffe://example.org/web', backend: 'web-1' };
    const lines = linesOf(
      new Asciicast(1),
      [-500, { case: 'opened', value: session }],
      [0, SHELL],
      [40, output('$ ')],
      [1250, output('ls\r\n')],
      [1300, { case: 'channelResized', value: { channel: 1, columns: 80, rows: 24 } }],
      [2000, { case: 'channelClosed', value: { channel: 1, exitStatus: 0 } }],
      [2100, { case: 'closed', value: {} }],
    );
    assert.deepEqual(parsed(lines), [
      {
        ...{ version: 2, width: 100, height: 30, timestamp: START / 1000 },
        ...{ title: 'spiffe://example.org/web on web-1', env: { TERM: 'xterm' } },
      },
      [0.04, 'o', '$ '],
      [1.25, 'o', 'ls\r\n'],
      [1.3, 'r', '80x24'],
    ]);
  });

  it('begins the lines of a command without a terminal at the left, and tells what was not kept', () => {
    const lines = linesOf(
      new Asciicast(1),
      [0, opened({ kind: 'exec', command: 'make' })],
      [10, output('a\nb\n')],
      [20, output('c\n', 1, true)],
      [30, { case: 'channelClosed', value: { channel: 1, bytesOmitted: 5n } }],
    );
    assert.deepEqual(parsed(lines), [
      { version: 2, width: 80, height: 24, timestamp: START / 1000, title: '', command: 'make' },
      [0.01, 'o', 'a\r\nb\r\n'],
      [0.02, 'o', 'c\r\n'],
      [0.03, 'm', '5 bytes were not kept'],
    ]);
  });

  it('holds a character together that came in pieces, for each stream by itself', () => {
    const bytes = Buffer.from('é€');
    const lines = linesOf(
      new Asciicast(1),
      [0, SHELL],
      [1, output(bytes.subarray(0, 1))],
      [2, output('!', 1, true)],
      [3, output(bytes.subarray(1, 4))],
      [4, { case: 'channelClosed', value: { channel: 1 } }],
    );
    assert.deepEqual(parsed(lines.slice(1)), [
      [0.002, 'o', '!'],
      [0.003, 'o', 'é'],
      [0.004, 'o', '\ufffd'],
    ]);
  });

  it('is of one channel alone', () => {
    const lines = linesOf(
      new Asciicast(2),
      [0, SHELL],
      [1, output('one')],
      [2, opened({ channel: 2, kind: 'exec', command: 'id' })],
      [3, output('one')],
      [4, output('two', 2)],
    );
    assert.deepEqual(parsed(lines.slice(1)), [[0.002, 'o', 'two']]);
  });

  it('does not go back in time with the clock, nor has a window without a size', () => {
    const terminal = { term: '', columns: 0, rows: 0 };
    const [header, ...events] = linesOf(
      new Asciicast(1),
      [0, opened({ kind: 'shell', terminal })],
      [900, output('a')],
      [300, output('b')],
    );
    assert.match(String(header), /"width":80,"height":24/);
    assert.deepEqual(parsed(events), [
      [0.9, 'o', 'a'],
      [0.9, 'o', 'b'],
    ]);
  });

  for (const value of [
    { kind: 'shell', deniedBy: 'shell-not-granted' },
    { kind: 'sftp' },
    { kind: 'scp', command: 'scp -t x' },
  ]) {
    it(`does not begin by ${JSON.stringify(value)}`, () => {
      const cast = new Asciicast(1);
      assert.deepEqual(linesOf(cast, [0, opened(value)], [1, output('x')]), []);
      assert.equal(cast.hasBegun, false);
    });
  }

  it('G50: is ASCII without controls, whatever was written', () => {
    const wild = '\u001b]52;c;x\u0007\u009b2J\u202eé😀\u007f';
    const lines = linesOf(
      new Asciicast(1),
      [0, opened({ kind: 'exec', command: wild, terminal: { term: wild } })],
      [1, output(wild)],
    );
    assert.equal(lines.length, 2);
    for (const line of lines) assert.match(line, /^[\x20-\x7e]+$/);
    assert.deepEqual(JSON.parse(String(lines[1])), [0.001, 'o', '2J\ufffdé😀']);
  });

  it('G50: plays nothing but what draws, also where it came in pieces and by both outputs', () => {
    const lines = linesOf(
      new Asciicast(1),
      [0, SHELL],
      [1, output('a\u001b]52;c;')],
      [2, output('Y3VybA==\u0007b\u001b', 1, true)],
      [3, output('[6nc\u001b[1')],
      [4, output('md', 1, true)],
    );
    const written = parsed(lines.slice(1)).map((line) => (Array.isArray(line) ? line[2] : ''));
    assert.equal(written.join(''), 'abc\u001b[1md');
  });

  it('has a size that a player can make room for', () => {
    const [header, resized] = linesOf(
      new Asciicast(1),
      [0, opened({ kind: 'shell', terminal: { term: '', columns: 65535, rows: 65535 } })],
      [1, { case: 'channelResized', value: { channel: 1, columns: 65535, rows: 0 } }],
    );
    assert.match(String(header), /"width":1000,"height":1000/);
    assert.deepEqual(JSON.parse(String(resized)), [0.001, 'r', '1000x24']);
  });
});
