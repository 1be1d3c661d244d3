import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { create } from '@bufbuild/protobuf';
import { GrantSchema } from '../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { createLogger } from '../../../../runtime/log.ts';
import { FakeClock } from '../../../../test/fakes/fake-clock.ts';
import type { RecordedEventInit } from '../../../recording/recorder.ts';
import type { ChannelRights } from './channel-rights.ts';
import { SessionChannel } from './session-channel.ts';
import type { ClientChannel, ClientStartRequest } from './ssh2-client.ts';
import type { ExitStatus, PtyRequest } from './ssh2-session-values.ts';

const PTY: PtyRequest = {
  ...{ term: 'xterm', columns: 80, rows: 24, width: 0, height: 0 },
  modes: new Uint8Array([0]),
};
const EXEC = { kind: 'exec', command: 'id' } as const;

describe('SessionChannel', () => {
  let clock: FakeClock;
  let rights: ChannelRights;
  let events: RecordedEventInit[];
  let told: string[];
  let exits: ExitStatus[];
  let asked: ClientStartRequest[];
  let judged: boolean[];
  let isClosed: boolean;
  let recordingFault: Fault | undefined;
  let killing: AbortController;
  let isToldOfRefusal: boolean;
  let openTarget: (channel: ClientChannel | Error) => void;
  let exitTarget: (status: ExitStatus) => void;
  let client: { input: PassThrough; output: PassThrough; errors: PassThrough };
  let channel: SessionChannel;
  beforeEach(() => {
    clock = new FakeClock();
    rights = { shell: true, exec: true, commands: [], sftp: true };
    [events, told, exits, asked, isClosed] = [[], [], [], [], false];
    judged = [];
    isToldOfRefusal = true;
    recordingFault = undefined;
    killing = new AbortController();
    client = streams();
    const write = (event: RecordedEventInit) => {
      if (recordingFault !== undefined) throw recordingFault;
      events.push(event);
    };
    channel = new SessionChannel({
      session: {
        grant: create(GrantSchema, { name: 'ops' }),
        recorder: { write, sync() {} },
        counts: { bytesUp: 0, bytesDown: 0, rows: 0, statements: 0 },
        signal: killing.signal,
      },
      get rights() {
        return rights;
      },
      target: {
        open: (request) => {
          asked.push(request);
          return new Promise((resolve, reject) => {
            openTarget = (result) => (result instanceof Error ? reject(result) : resolve(result));
          });
        },
      },
      ...{ clock, log: createLogger({ process: 'gateway', level: 'silent' }) },
      onJudged: ({ allowed }) => judged.push(allowed),
      number: () => 1,
      onClosed: () => {
        isClosed = true;
      },
    });
  });

  const streams = () => ({
    input: new PassThrough(),
    output: new PassThrough(),
    errors: new PassThrough(),
  });
  function target(): ClientChannel & { output: PassThrough; errors: PassThrough } {
    const exit = new Promise<ExitStatus>((resolve) => {
      exitTarget = resolve;
    });
    return {
      ...{ ...streams(), exit },
      resize: ({ columns }) => told.push(`resize ${columns}`),
      signal: (name) => told.push(`signal ${name}`),
      refuseOutput: () => told.push('output refused') > 0 && isToldOfRefusal,
      close: () => told.push('close'),
    };
  }
  const start = (request: Parameters<SessionChannel['start']>[0] = EXEC) =>
    channel.start(request, {
      ...client,
      exit: (status) => exits.push(status),
      close: () => assert.fail('exit closes'),
    });
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  const said = () => String(client.errors.read() ?? '');
  const cases = () => events.map((event) => event.case);

  it('gives a terminal once, before the start, and not without the right to a shell', () => {
    rights = { ...rights, shell: false };
    assert.equal(channel.pty(PTY), false);
    rights = { ...rights, shell: true };
    assert.equal(channel.pty(PTY), true);
    assert.equal(channel.pty(PTY), false);
    start();
    assert.equal(asked[0]?.pty, PTY);
    assert.equal(channel.pty(PTY), false);
  });

  it('takes LANG, LC_* and TERM, and a bounded number of them', () => {
    assert.equal(channel.env('LANG', 'de'), true);
    assert.equal(channel.env('LC_ALL', 'C'), true);
    assert.equal(channel.env('TERM', 'vt100'), true);
    for (const name of ['PATH', 'LD_PRELOAD', 'LC_', 'LANGUAGE', 'xLANG', 'LC_A=B', 'LC_A\n']) {
      assert.equal(channel.env(name, 'x'), false, name);
    }
    assert.equal(channel.env('LC_TIME', 'x'.repeat(1025)), false);
    const letters = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZ'];
    const names = letters.flatMap((a) => [`LC_${a}A`, `LC_${a}B`]);
    const taken = names.filter((name) => channel.env(name, 'x'));
    assert.equal(taken.length, 29);
    start();
    assert.equal(asked[0]?.env.get('LANG'), 'de');
    assert.equal(channel.env('LANG', 'en'), false);
  });

  it('starts once', async () => {
    assert.equal(start(), true);
    assert.equal(start(), false);
    assert.deepEqual([asked.length, cases()], [1, ['channelOpened']]);
  });

  it('starts nothing that cannot be recorded', () => {
    recordingFault = new Fault('RECORDING_UNWRITABLE', 'disk full');
    assert.equal(start(), false);
    assert.deepEqual(asked, []);
  });

  it('starts nothing once its session has ended', () => {
    killing.abort(new Fault('PERMISSION_DENIED', 'over'));
    assert.equal(start(), false);
    assert.deepEqual([asked, events], [[], []]);
  });

  it('says what is not granted, and asks the target for nothing', async () => {
    rights = { ...rights, exec: false };
    assert.equal(start(), true);
    await settled();
    assert.equal(said(), 'writ: the grant ops does not give this command\n');
    assert.deepEqual([exits, judged], [[{ code: 126 }], [false]]);
    assert.deepEqual([asked, cases(), isClosed], [[], ['channelOpened', 'channelClosed'], true]);
  });

  it('says that the target opened nothing', async () => {
    start();
    openTarget(new Fault('UNAVAILABLE', 'the target refuses the exec'));
    await settled();
    assert.equal(said(), 'writ: the target refuses the exec\n');
    assert.deepEqual([exits, isClosed], [[{ code: 255 }], true]);
  });

  it('ends with what it ran', async () => {
    start();
    const ran = target();
    openTarget(ran);
    await settled();
    ran.output.end('out');
    ran.errors.end();
    exitTarget({ code: 3 });
    await settled();
    await settled();
    assert.equal(String(client.output.read()), 'out');
    assert.deepEqual([exits, told, isClosed], [[{ code: 3 }], ['close'], true]);
    assert.deepEqual(judged, [true]);
    assert.deepEqual(cases(), ['channelOpened', 'channelOutput', 'channelClosed']);
  });

  it('hands on, in order, what came before the target was there', async () => {
    channel.pty(PTY);
    channel.signalled('TERM');
    channel.resized({ ...PTY, columns: 90 });
    start();
    assert.equal(asked[0]?.pty?.columns, 90);
    channel.resized({ ...PTY, columns: 100 });
    channel.signalled('INT');
    channel.signalled('WINCH');
    channel.resized({ ...PTY, columns: 110 });
    openTarget(target());
    await settled();
    channel.signalled('USR1');
    assert.deepEqual(told, ['resize 100', 'signal INT', 'resize 110', 'signal USR1']);
    assert.deepEqual(cases(), ['channelOpened', 'channelResized', 'channelResized']);
  });

  it('bounds what waits for the target', async () => {
    start();
    for (let n = 0; n < 1000; n += 1) channel.signalled('USR1');
    openTarget(target());
    await settled();
    assert.equal(told.length, 64);
  });

  it('has a program told that its output is not taken, and leaves the rest to it', async () => {
    start();
    channel.outputRefused();
    openTarget(target());
    await settled();
    await clock.advance(300);
    assert.deepEqual([told, exits, isClosed], [['output refused'], [], false]);
  });

  for (const [what, isOnTerminal, isTold] of [
    ['on a terminal, which nobody sees any more', true, true],
    ['that its target cannot tell that its output is not taken', false, false],
  ] as const) {
    for (const when of ['before', 'after']) {
      it(`kills a program ${what}, asked so ${when} it runs`, async () => {
        isToldOfRefusal = isTold;
        if (isOnTerminal) channel.pty(PTY);
        start();
        if (when === 'before') channel.outputRefused();
        const ran = target();
        openTarget(ran);
        await settled();
        if (when === 'after') channel.outputRefused();
        ran.errors.write('late');
        await clock.advance(300);
        await settled();
        assert.deepEqual(told, ['output refused', 'signal HUP', 'signal KILL', 'close']);
        assert.deepEqual([exits, isClosed], [[undefined], true]);
        assert.deepEqual(cases(), ['channelOpened', 'channelClosed']);
        assert.equal(client.errors.read(), null);
      });
    }
  }

  it('kills what runs when the client closes', async () => {
    start();
    openTarget(target());
    await settled();
    channel.closed();
    await clock.advance(300);
    await settled();
    assert.deepEqual(told, ['signal HUP', 'signal KILL', 'close']);
    assert.deepEqual([isClosed, cases().at(-1)], [true, 'channelClosed']);
  });

  it('kills what the target started after the client had closed', async () => {
    start();
    channel.closed();
    openTarget(target());
    await settled();
    await clock.advance(300);
    assert.deepEqual(told, ['signal HUP', 'signal KILL', 'close']);
  });

  it('says why its session ends, in one line, and forwards nothing more', async () => {
    channel.pty(PTY);
    start({ kind: 'shell', command: '' });
    const ran = target();
    openTarget(ran);
    await settled();
    killing.abort(new Fault('PERMISSION_DENIED', 'over'));
    const ended = channel.end('over');
    ran.output.write('late');
    client.input.write('late');
    await clock.advance(300);
    await ended;
    assert.equal(said(), 'writ: over\r\n');
    assert.equal(client.output.read(), null);
    assert.equal((ran.input as PassThrough).read(), null);
    assert.deepEqual(exits, [undefined]);
  });

  it('says so too where the target is gone already', async () => {
    start();
    const ran = target();
    openTarget(ran);
    await settled();
    ran.output.end();
    ran.errors.end();
    exitTarget(undefined);
    await clock.advance(50);
    assert.deepEqual(exits, []);
    killing.abort(new Fault('UNAVAILABLE', 'web-1 closed the connection'));
    await channel.end('web-1 closed the connection');
    assert.equal(said(), 'writ: web-1 closed the connection\n');
  });

  it('ends without a status where the target alone closes it', async () => {
    start();
    const ran = target();
    openTarget(ran);
    await settled();
    ran.output.end();
    ran.errors.end();
    exitTarget(undefined);
    await clock.advance(150);
    assert.deepEqual([exits, said()], [[undefined], '']);
  });

  it('leaves the word to its session where the record fails', async () => {
    start();
    const ran = target();
    openTarget(ran);
    await settled();
    recordingFault = new Fault('RECORDING_UNWRITABLE', 'disk full');
    ran.output.write('secret');
    await settled();
    assert.deepEqual([client.output.read(), exits], [null, []]);
    const ended = channel.end('disk full');
    await clock.advance(300);
    await ended;
    assert.equal(said(), 'writ: disk full\n');
  });

  it('that nothing was started on ends without a word', async () => {
    await channel.end('over');
    assert.deepEqual([isClosed, exits, events], [true, [], []]);
    assert.equal(start(), false);
  });
});
