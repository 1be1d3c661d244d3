import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  ReplaySessionResponseSchema,
  type SessionService,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { RecordedEventSchema } from '../../proto/gen/writ/gateway/v1/recording_pb.ts';
import type { Client } from '../../runtime/grpc-client.ts';
import type { Flags, VerbIo } from '../verb.ts';
import { sessionReplay } from './session-replay.ts';

type RecordedEventInit = NonNullable<MessageInitShape<typeof RecordedEventSchema>['event']>;

type Answer = NonNullable<MessageInitShape<typeof ReplaySessionResponseSchema>['message']>;

const opened = (channel: number, kind: string, rest = {}): RecordedEventInit => ({
  case: 'channelOpened',
  value: { channel, kind, ...rest },
});
const output = (channel: number, text: string): RecordedEventInit => ({
  case: 'channelOutput',
  value: { channel, data: Buffer.from(text) },
});

describe('writ session replay', () => {
  let events: RecordedEventInit[];
  let verdict: Answer | undefined;
  let readings: string[];
  let out: string[];
  let err: string[];
  beforeEach(() => {
    verdict = { case: 'verdict', value: { state: 'verified', detail: '1 segments, 3 events' } };
    [events, readings, out, err] = [[], [], [], []];
  });

  async function* replaySession({ sessionId = '' }: { readonly sessionId?: string }) {
    readings.push(sessionId);
    const answers: (Answer | undefined)[] = [
      ...events.map((event) => ({ case: 'event', value: { event } }) as const),
      verdict,
    ];
    for (const message of answers) {
      if (message !== undefined) yield create(ReplaySessionResponseSchema, { message });
    }
  }

  function run(flags: Flags = {}): Promise<void> {
    const service = { replaySession } as Partial<Client<typeof SessionService>>;
    const io = {
      signal: new AbortController().signal,
      admin: () => service as never,
      out: (line: string) => out.push(line),
      err: (line: string) => err.push(line),
    } as VerbIo;
    return sessionReplay.run(flags, io, ['s_1']);
  }

  it('shows a transcript, what stands unfinished too, and then the verdict', async () => {
    events = [opened(1, 'exec', { command: 'id' }), output(1, 'uid=0')];
    await run();
    assert.deepEqual(
      out.map((line) => line.trim()),
      ['ch 1 exec   id', 'ch 1 | uid=0'],
    );
    assert.deepEqual(err, ['record verified: 1 segments, 3 events']);
  });

  it('G50: is ASCII without controls with --json too', async () => {
    const command = 'echo \u001b[2J\u009b2J\u202e';
    events = [opened(1, 'exec', { command })];
    await run({ json: true });
    assert.match(out.join(''), /^[\x20-\x7e]+$/);
    assert.equal(JSON.parse(String(out[0])).channel_opened.command, command);
  });

  it('fails on a record that is broken, and on one without a verdict', async () => {
    verdict = { case: 'verdict', value: { state: 'broken', detail: 'events are missing' } };
    await assert.rejects(run(), { code: 'FAILED_PRECONDITION' });
    verdict = undefined;
    await assert.rejects(run({ json: true }), { code: 'FAILED_PRECONDITION' });
    assert.deepEqual(err, [
      'record broken: events are missing',
      'record broken: the server gave no verdict',
    ]);
  });

  describe('--asciicast', () => {
    const cast = (channel?: string) =>
      run({ asciicast: true, ...(channel !== undefined && { channel }) });

    it('takes the one channel whose output is kept', async () => {
      events = [
        opened(1, 'shell', { deniedBy: 'shell-not-granted' }),
        opened(2, 'sftp'),
        opened(3, 'exec', { command: 'id' }),
        output(3, 'uid=0'),
      ];
      await cast();
      assert.equal(out.length, 2);
      assert.deepEqual(JSON.parse(out[1] ?? ''), [0, 'o', 'uid=0']);
      assert.deepEqual(err, ['record verified: 1 segments, 3 events']);
    });

    it('lists several, and writes nothing before one is named', async () => {
      events = [
        opened(1, 'shell'),
        opened(2, 'exec', { command: 'id\u001b[2J' }),
        output(2, 'uid=0'),
      ];
      await assert.rejects(cast(), {
        code: 'USAGE',
        message:
          'the session has several channels: name one by --channel\n  1  shell\n  2  exec id?[2J',
      });
      assert.deepEqual(out, []);
      await cast('2');
      assert.equal(out.length, 2);
      assert.deepEqual(readings, ['s_1', 's_1']);
    });

    it('fails where there is nothing to replay', async () => {
      events = [opened(1, 'sftp')];
      for (const channel of [undefined, '1', '2']) {
        await assert.rejects(cast(channel), { code: 'NOT_FOUND' });
      }
      assert.deepEqual(out, []);
    });

    it('fails on a record that is broken', async () => {
      events = [opened(1, 'shell')];
      verdict = { case: 'verdict', value: { state: 'broken' } };
      await assert.rejects(cast(), { code: 'FAILED_PRECONDITION' });
    });

    for (const flags of [
      { asciicast: true, channel: '0' },
      { asciicast: true, channel: 'one' },
      { asciicast: true, json: true },
      { channel: '1' },
    ] satisfies Flags[]) {
      it(`refuses ${JSON.stringify(flags)}`, async () => {
        await assert.rejects(run(flags), { code: 'USAGE' });
        assert.deepEqual(readings, []);
      });
    }
  });
});
