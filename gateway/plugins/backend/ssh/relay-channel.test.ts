import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setImmediate as turn } from 'node:timers/promises';
import { Fault } from '../../../../runtime/fault.ts';
import type { RecordedEventInit } from '../../../recording/recorder.ts';
import { ChannelRecord, FIRST_BYTES } from './channel-record.ts';
import type { StartVerdict } from './channel-rights.ts';
import { relayChannel } from './relay-channel.ts';
import type { ExitStatus } from './ssh2-session-values.ts';

describe('relayChannel', () => {
  let events: RecordedEventInit[];
  let client: { input: PassThrough; output: PassThrough; errors: PassThrough };
  let target: typeof client & { exit: Promise<ExitStatus> };
  let exit: (status: ExitStatus) => void;
  let counts: { bytesUp: number; bytesDown: number };
  let recordingFault: Fault | undefined;
  beforeEach(() => {
    events = [];
    counts = { bytesUp: 0, bytesDown: 0 };
    recordingFault = undefined;
    const streams = () => ({
      input: new PassThrough(),
      output: new PassThrough(),
      errors: new PassThrough(),
    });
    client = streams();
    const exited = new Promise<ExitStatus>((resolve) => {
      exit = resolve;
    });
    target = { ...streams(), exit: exited };
  });

  const recorder = {
    write(event: RecordedEventInit) {
      if (recordingFault !== undefined) throw recordingFault;
      events.push(event);
    },
    sync() {},
  };
  function recordOf(kept: 'all' | 'first' | 'nothing'): ChannelRecord {
    const verdict: StartVerdict = { allowed: true, kind: 'exec', kept };
    const request = { kind: 'exec' as const, command: 'id' };
    return ChannelRecord.open(recorder, { number: 1, request, terminal: undefined, verdict });
  }
  const start = (record = recordOf('all')) => relayChannel({ client, target, record, counts });
  function endTarget(status: ExitStatus): void {
    target.output.end();
    target.errors.end();
    exit(status);
  }
  const outputs = () =>
    events.flatMap((event) => (event.case === 'channelOutput' ? [event.value] : []));
  function closedOf(record: ChannelRecord, status: ExitStatus = { code: 0 }) {
    record.closed(status);
    const last = events.at(-1);
    assert.ok(last?.case === 'channelClosed');
    return last.value;
  }

  it('records what the target writes before the client sees it', async () => {
    start();
    const seen: number[] = [];
    client.output.on('data', () => seen.push(outputs().length));
    target.output.end('hello');
    await once(target.output, 'end');
    await turn();
    assert.deepEqual(seen, [1]);
    assert.deepEqual(outputs(), [{ channel: 1, isStderr: false, data: Buffer.from('hello') }]);
  });

  it('keeps the two outputs apart, and their bytes', async () => {
    const { finished } = start();
    target.output.write('out');
    target.errors.write('err');
    endTarget({ code: 3 });
    const status = await finished;
    client.output.end();
    client.errors.end();
    assert.deepEqual(status, { code: 3 });
    assert.equal(String(await buffer(client.output)), 'out');
    assert.equal(String(await buffer(client.errors)), 'err');
    assert.deepEqual(
      outputs().map(({ isStderr }) => isStderr),
      [false, true],
    );
    assert.deepEqual(counts, { bytesUp: 0, bytesDown: 6 });
  });

  it('hands on what the client sends, and its end, and counts it', async () => {
    const record = recordOf('all');
    start(record);
    client.input.end('typed');
    assert.equal(String(await buffer(target.input)), 'typed');
    assert.deepEqual(counts, { bytesUp: 5, bytesDown: 0 });
    const { bytesUp, bytesDown } = closedOf(record);
    assert.deepEqual([bytesUp, bytesDown], [5n, 0n]);
    assert.deepEqual(outputs(), []);
  });

  it('goes on to the end of the output after the client has ended its input', async () => {
    const { finished } = start();
    client.input.end();
    await buffer(target.input);
    target.output.write('still');
    endTarget({ code: 0 });
    await finished;
    client.output.end();
    assert.equal(String(await buffer(client.output)), 'still');
  });

  it('waits for all output, not for the exit status alone', async () => {
    const { finished } = start();
    let isFinished = false;
    void finished.then(() => {
      isFinished = true;
    });
    exit({ code: 0 });
    await turn();
    assert.equal(isFinished, false);
    endTarget({ code: 0 });
    await finished;
  });

  it('reads no more from a target whose client does not read', async () => {
    start();
    let written = 0;
    while (target.output.write(Buffer.alloc(16_384))) {
      written += 16_384;
      await turn();
      assert.ok(written < 1024 * 1024, 'it reads without end');
    }
    const before = counts.bytesDown;
    for (let look = 0; look < 20; look += 1) await turn();
    assert.equal(counts.bytesDown, before);
    client.output.resume();
    await once(target.output, 'drain');
    assert.ok(counts.bytesDown > before);
  });

  it('reads no more from a client whose target does not read', async () => {
    start();
    let written = 0;
    while (client.input.write(Buffer.alloc(16_384))) {
      written += 16_384;
      await turn();
      assert.ok(written < 1024 * 1024, 'it reads without end');
    }
    target.input.resume();
    await once(client.input, 'drain');
  });

  it('forwards nothing that cannot be recorded', async () => {
    const { finished } = start();
    recordingFault = new Fault('RECORDING_UNWRITABLE', 'disk full');
    target.output.write('secret');
    await assert.rejects(finished, { code: 'RECORDING_UNWRITABLE' });
    client.output.end();
    assert.equal(String(await buffer(client.output)), '');
  });

  it('forwards nothing after stop, and lets the target write into nothing', async () => {
    const relay = start();
    relay.stop();
    target.output.write(Buffer.alloc(1024 * 1024));
    client.input.write('late');
    endTarget(undefined);
    await relay.finished;
    assert.deepEqual([client.output.readableLength, target.input.readableLength], [0, 0]);
    assert.deepEqual(outputs(), []);
  });

  it('survives streams that fail', async () => {
    const { finished } = start();
    client.output.destroy(new Error('gone'));
    target.input.destroy(new Error('gone'));
    client.input.write('x');
    target.output.write('y');
    await turn();
    endTarget({ code: 0 });
    assert.deepEqual(await finished, { code: 0 });
  });

  it('keeps the first MiB of a command exactly, and hashes the rest', async () => {
    const record = recordOf('first');
    const { finished } = start(record);
    const all = Buffer.alloc(FIRST_BYTES + 100_000);
    for (let at = 0; at < all.length; at += 1) all[at] = at % 251;
    client.output.resume();
    Readable.from(chunks(all, 30_001)).pipe(target.output);
    target.errors.end();
    exit({ code: 0 });
    await finished;
    const kept = Buffer.concat(outputs().map(({ data }) => data ?? Buffer.alloc(0)));
    assert.ok(kept.equals(all.subarray(0, FIRST_BYTES)));
    const closed = closedOf(record);
    assert.equal(closed.bytesDown, BigInt(all.length));
    assert.equal(closed.bytesOmitted, 100_000n);
    const expected = createHash('sha256').update(all.subarray(FIRST_BYTES)).digest();
    assert.deepEqual(closed.omittedSha256, expected);
  });

  it('keeps nothing of a transfer but its counts', async () => {
    const record = recordOf('nothing');
    start(record);
    client.output.resume();
    target.output.end('content');
    await once(target.output, 'end');
    assert.deepEqual(outputs(), []);
    const { bytesDown, bytesOmitted, omittedSha256 } = closedOf(record);
    assert.deepEqual([bytesDown, bytesOmitted, omittedSha256], [7n, 7n, undefined]);
  });
});

describe('ChannelRecord', () => {
  const events: RecordedEventInit[] = [];
  const recorder = {
    write: (event: RecordedEventInit) => {
      events.push(event);
    },
    sync() {},
  };
  beforeEach(() => events.splice(0));
  const terminal = {
    term: 'xterm\x1b[31m',
    columns: 80,
    rows: 4_000_000_000,
    width: 0,
    height: 0,
    modes: new Uint8Array(),
  };

  it('tells what was asked for, and the rule that refused it', () => {
    const request = { kind: 'shell' as const, command: '' };
    const verdict = { allowed: false, kind: 'shell', rule: 'shell-not-granted' } as const;
    ChannelRecord.open(recorder, { number: 7, request, terminal, verdict });
    assert.deepEqual(events, [
      {
        case: 'channelOpened',
        value: {
          channel: 7,
          kind: 'shell',
          command: '',
          terminal: { term: 'xterm?[31m', columns: 80, rows: 65_535 },
          deniedBy: 'shell-not-granted',
        },
      },
    ]);
  });

  it('closes once, with a status or a signal', () => {
    const request = { kind: 'exec' as const, command: 'id' };
    const verdict = { allowed: true, kind: 'exec', kept: 'all' } as const;
    const open = () =>
      ChannelRecord.open(recorder, { number: 1, request, terminal: undefined, verdict });
    const first = open();
    first.closed({ signal: 'TERM', coreDumped: false, message: '' });
    first.closed({ code: 0 });
    open().closed({ code: 255 });
    open().closed(undefined);
    const closed = events.flatMap((event) => (event.case === 'channelClosed' ? [event.value] : []));
    assert.deepEqual(
      closed.map(({ exitStatus, exitSignal }) => [exitStatus, exitSignal]),
      [
        [undefined, 'TERM'],
        [255, undefined],
        [undefined, undefined],
      ],
    );
  });
});

function* chunks(all: Buffer, size: number): Generator<Buffer> {
  for (let at = 0; at < all.length; at += size) yield all.subarray(at, at + size);
}
