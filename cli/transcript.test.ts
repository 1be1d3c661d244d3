import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { FindingKind, RecordedEventSchema } from '../proto/gen/writ/gateway/v1/recording_pb.ts';
import { Transcript, transcriptLines } from './transcript.ts';

type RecordedEventInit = NonNullable<MessageInitShape<typeof RecordedEventSchema>['event']>;

const at = timestampFromDate(new Date('2026-01-02T03:04:05.678Z'));

describe('transcriptLines', () => {
  it('shows a statement, what was kept of its parameters, and what refused it', () => {
    const lines = transcriptLines(
      create(RecordedEventSchema, {
        at,
        event: {
          case: 'statement',
          value: {
            number: 3n,
            class: 'read',
            text: 'select $1, $2',
            deniedBy: 'class:ddl',
            parameters: [
              { position: 1, target: 'public.orders.id', content: { case: 'value', value: '7' } },
              { position: 2, content: { case: 'hmac', value: Buffer.alloc(32) } },
            ],
          },
        },
      }),
    );
    assert.deepEqual(lines, [
      '03:04:05.678  #3 read  select $1, $2  REFUSED by class:ddl',
      '              $1 (public.orders.id) = 7, $2 = withheld',
    ]);
  });

  it('shows what was found in results, and how often', () => {
    const told = (kind: FindingKind, name: string) =>
      transcriptLines(
        create(RecordedEventSchema, {
          at,
          event: { case: 'finding', value: { kind, name, count: 2n } },
        }),
      );
    assert.deepEqual(
      [
        ...told(FindingKind.SHOWN, 'email'),
        ...told(FindingKind.MASKED, 'card'),
        ...told(FindingKind.UNMASKED, 'public.customers.ssn'),
      ],
      [
        '03:04:05.678  found    shown, found by the detector email (2)',
        '03:04:05.678  found    masked by the detector card (2)',
        '03:04:05.678  found    UNMASKED column public.customers.ssn (2)',
      ],
    );
  });

  it('shows no control character of what a client sent', () => {
    const [line] = transcriptLines(
      create(RecordedEventSchema, {
        at,
        event: {
          case: 'statement',
          value: { number: 1n, class: 'read', text: 'select \u001b]52;c;x\u0007' },
        },
      }),
    );
    assert.ok(line?.endsWith('select ?]52;c;x?'));
  });

  it('shows none either of what a gateway wrote that was taken over (threats S2)', () => {
    const wild = 'x\u001b[2J\ny';
    const names = ['spiffeId', 'backend', 'grant', 'owner', 'purpose', 'clientAddress'];
    const session = Object.fromEntries(names.map((name) => [name, wild]));
    for (const event of [
      { case: 'opened', value: { ...session, client: { login: wild } } },
      { case: 'statement', value: { class: wild, text: wild, deniedBy: wild } },
      { case: 'closed', value: { reason: wild } },
      { case: 'finding', value: { name: wild } },
    ] satisfies RecordedEventInit[]) {
      const lines = transcriptLines(create(RecordedEventSchema, { at, event }));
      for (const line of lines) assert.doesNotMatch(line, /[\p{Cc}\p{Cf}]/u);
    }
  });

  it('names masked columns of a result, and only the state of an error', () => {
    const result = (value: object) =>
      transcriptLines(create(RecordedEventSchema, { at, event: { case: 'result', value } }))[0];
    assert.match(
      result({
        number: 1n,
        commandTag: 'SELECT 2',
        durationMicroseconds: 1500n,
        maskedColumns: ['ssn'],
      }) ?? '',
      /SELECT 2, 1\.5 ms, masked: ssn$/,
    );
    assert.match(result({ number: 1n, sqlstate: '42501' }) ?? '', /error 42501, 0\.0 ms$/);
  });
});

describe('Transcript', () => {
  let seconds: number;
  beforeEach(() => {
    seconds = 0;
  });

  /** Each event a second after the one before. */
  function linesOf(...events: RecordedEventInit[]): string[] {
    const transcript = new Transcript();
    const lines = events.flatMap((event) => {
      const time = timestampFromDate(new Date(Date.UTC(2026, 0, 2, 3, 4, seconds++)));
      return transcript.lines(create(RecordedEventSchema, { at: time, event }));
    });
    return [...lines, ...transcript.end()];
  }
  const output = (data: string | Buffer, channel = 1, isStderr = false): RecordedEventInit => ({
    case: 'channelOutput',
    value: { channel, isStderr, data: Buffer.from(data) },
  });

  it('shows an SSH session: its login, its channels, what they wrote and how they ended', () => {
    const lines = linesOf(
      {
        case: 'opened',
        value: {
          ...{ spiffeId: 'spiffe://example.org/web', backend: 'web-1', grant: 'admin' },
          ...{ owner: 'ana', purpose: 'test', clientAddress: '192.0.2.7:1' },
          client: { login: 'deploy' },
        },
      },
      { case: 'channelOpened', value: { channel: 1, kind: 'exec', command: 'uname -s' } },
      output('Linux\n'),
      output('oops\n', 1, true),
      { case: 'channelClosed', value: { channel: 1, exitStatus: 2, bytesUp: 3n, bytesDown: 11n } },
      {
        case: 'channelOpened',
        value: {
          ...{ channel: 2, kind: 'shell' },
          terminal: { term: 'xterm', columns: 80, rows: 24 },
        },
      },
      { case: 'channelResized', value: { channel: 2, columns: 100, rows: 30 } },
      { case: 'channelClosed', value: { channel: 2, exitSignal: 'HUP', bytesOmitted: 7n } },
      { case: 'channelOpened', value: { channel: 3, kind: 'sftp', deniedBy: 'sftp-not-granted' } },
      { case: 'channelClosed', value: { channel: 4 } },
      { case: 'closed', value: { reason: 'killed', bytesUp: 3n, bytesDown: 11n } },
    );
    assert.deepEqual(lines, [
      '03:04:00.000  opened   spiffe://example.org/web on web-1 as deploy by grant admin',
      '              owner ana, purpose test, from 192.0.2.7:1',
      '03:04:01.000  ch 1 exec   uname -s',
      '03:04:02.000  ch 1 | Linux',
      '03:04:03.000  ch 1 ! oops',
      '03:04:04.000  ch 1 end    exit status 2, 3 bytes up, 11 down',
      '03:04:05.000  ch 2 shell  (xterm 80x24)',
      '03:04:06.000  ch 2 size   100x30',
      '03:04:07.000  ch 2 end    signal HUP, 0 bytes up, 0 down, 7 of them not kept',
      '03:04:08.000  ch 3 sftp    REFUSED by sftp-not-granted',
      '03:04:09.000  ch 4 end    cut off, 0 bytes up, 0 down',
      '03:04:10.000  closed   killed (3 bytes up, 11 down)',
    ]);
  });

  it('joins what came in pieces, also within a character, under the time of the first', () => {
    const [first, second] = [Buffer.from('é').subarray(0, 1), Buffer.from('é').subarray(1)];
    const lines = linesOf(
      output('caf'),
      output(first),
      output('other\n', 2),
      output(second),
      output(' au\r'),
      output('\nlait\n'),
    );
    assert.deepEqual(lines, [
      '03:04:02.000  ch 2 | other',
      '03:04:00.000  ch 1 | café au',
      '03:04:05.000  ch 1 | lait',
    ]);
  });

  it('shows what stands unfinished when its channel, the session or the record ends', () => {
    const end = (text: string) => linesOf(output(text)).map((line) => line.slice(14));
    assert.deepEqual(end('a\nb'), ['ch 1 | a', 'ch 1 | b']);
    const lines = linesOf(
      output('one'),
      output('two', 2),
      { case: 'channelClosed', value: { channel: 1, exitStatus: 0 } },
      { case: 'closed', value: { reason: 'done' } },
    );
    assert.deepEqual(
      lines.map((line) => line.slice(14, 24)),
      ['ch 1 | one', 'ch 1 end  ', 'ch 2 | two', 'closed   d'],
    );
  });

  it('keeps no line without an end in memory', () => {
    const lines = linesOf(...Array.from({ length: 5 }, () => output('x'.repeat(2000))));
    assert.deepEqual(
      lines.map((line) => line.length),
      [6021, 4021],
    );
  });

  it('G50: hides no text, and lets no escape through', () => {
    const shown = linesOf(output('\u001b[31mred\u001b[0m \u001b]0;title\u0007 a\rb \u009b2J\n'));
    assert.deepEqual(
      shown.map((line) => line.slice(14)),
      ['ch 1 | red ?]0;title? a', 'ch 1 | b ?2J'],
    );
    const [opened] = linesOf({
      case: 'channelOpened',
      value: { channel: 1, kind: 'exec', command: 'echo \u001b]52;c;x\u0007' },
    });
    assert.ok(opened?.endsWith('exec   echo ?]52;c;x?'));
  });
});
