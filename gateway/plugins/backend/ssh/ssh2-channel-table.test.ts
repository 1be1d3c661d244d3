import assert from 'node:assert/strict';
import { SshWriter } from '../../../../identity/ssh/wire.ts';
import {
  channelData,
  channelRequest,
  globalRequest,
  openRequest,
  type RawPeer,
  ServedPeer,
} from '../../../../test/fixtures/ssh2-raw.ts';
import { eventually } from '../../../../test/fixtures/ssh2-server.ts';
import { DISCONNECT, disconnectMessage, MESSAGE, message, OPEN_FAILURE } from './ssh2-messages.ts';
import type { ServeSshOptions } from './ssh2-server.ts';

const LIMITS = { rekeyBytes: 2 ** 30, rekeyMs: 3_600_000, pendingBytes: 8 * 2 ** 20 };
const WINDOW = 2 * 2 ** 20;

describe('serveSsh to a client that breaks the protocol', () => {
  let served: ServedPeer;

  afterEach(() => served.close());

  function loggedIn(change: Partial<ServeSshOptions> = {}): Promise<RawPeer> {
    served = new ServedPeer(change);
    return served.logIn();
  }

  describe('on channels', () => {
    const end = (id: number) => message(MESSAGE.CHANNEL_EOF).u32(id).finish();
    const adjust = (id: number, bytes: number) =>
      message(MESSAGE.CHANNEL_WINDOW_ADJUST).u32(id).u32(bytes).finish();

    for (const [what, payloads] of [
      ['a message for no channel', () => [channelData(99, Buffer.of(1))]],
      ['data after its end', (id) => [end(id), channelData(id, Buffer.of(1))]],
      ['two ends', (id) => [end(id), end(id)]],
      ['a window beyond 2^32', (id) => [adjust(id, 2 ** 32 - 1), adjust(id, 1)]],
      ['an answer to no request', (id) => [message(MESSAGE.CHANNEL_SUCCESS).u32(id).finish()]],
      ['an answer to no global request', () => [message(MESSAGE.REQUEST_SUCCESS).finish()]],
      ['a confirmation of no channel', (id) => [confirmation(id)]],
      ['a failure of no channel', (id) => [failure(id)]],
      ['a message cut short', () => [Buffer.of(MESSAGE.CHANNEL_DATA, 0, 0)]],
      ['bytes after a message', (id) => [Buffer.concat([end(id), Buffer.of(0)])]],
    ] as readonly [string, (id: number) => Buffer[]][]) {
      it(`ends at ${what}`, async () => {
        const peer = await loggedIn();
        const id = await peer.session('cat');
        peer.send(...payloads(id));
        await peer.ending();
        await served.connection.closed;
        assert.deepEqual(served.asked, ['exec cat', 'closed']);
      });
    }

    it('ends when more comes than the window that a stopped reader leaves', async () => {
      const peer = await loggedIn();
      const id = await peer.session('cat');
      const piece = Buffer.alloc(32_768);
      for (let sent = 0; sent < WINDOW; sent += piece.length) peer.send(channelData(id, piece));
      await eventually(() => served.channels[0]?.input.readableLength !== 0);
      assert.equal(peer.over, undefined);
      peer.send(channelData(id, Buffer.of(1)));
      assert.match(await peer.ending(), /beyond a channel's window/);
    });

    it('refuses what is not allowed, and goes on', async () => {
      const peer = await loggedIn();
      const text = (...parts: (string | Uint8Array)[]) => {
        const writer = new SshWriter();
        for (const part of parts) writer.string(part);
        return writer.finish();
      };
      const id = await peer.session();
      const refused = [
        channelRequest(id, 'auth-agent-req@openssh.com'),
        channelRequest(id, 'x11-req', Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        channelRequest(id, 'unheard-of', Buffer.from('anything')),
        channelRequest(id, 'signal', text('TERM')),
        channelRequest(id, 'window-change', Buffer.alloc(16)),
        channelRequest(id, 'env', text('LANG', 'x'.repeat(5000))),
        channelRequest(id, 'env', text('LANG', 'C\0')),
        channelRequest(id, 'env', text('LANG', Buffer.of(0xff))),
      ];
      peer.send(...refused);
      assert.deepEqual(
        await peer.numbers(refused.length),
        refused.map(() => MESSAGE.CHANNEL_FAILURE),
      );
      peer.send(channelRequest(id, 'shell'));
      await peer.next(MESSAGE.CHANNEL_SUCCESS);
      const late = [
        channelRequest(id, 'shell'),
        channelRequest(id, 'exec', text('id')),
        channelRequest(id, 'env', text('LANG', 'C')),
        channelRequest(id, 'pty-req', Buffer.concat([text('xterm'), Buffer.alloc(16), text('')])),
        channelRequest(id, 'signal', text('not a name')),
      ];
      peer.send(...late);
      assert.deepEqual(
        await peer.numbers(late.length),
        late.map(() => MESSAGE.CHANNEL_FAILURE),
      );
      peer.send(channelRequest(id, 'signal', text('TERM')));
      await peer.next(MESSAGE.CHANNEL_SUCCESS);
      assert.deepEqual(served.asked, ['shell ', 'signal TERM']);
    });

    it('refuses channels of other types, beyond the number, or of packets too small', async () => {
      const peer = await loggedIn();
      const reasonOf = async (request: Buffer) => {
        peer.send(request);
        const reader = await peer.next(MESSAGE.CHANNEL_OPEN_FAILURE);
        reader.u32();
        return reader.u32();
      };
      for (const type of ['x11', 'forwarded-tcpip', 'direct-streamlocal@openssh.com', 'tun']) {
        assert.equal(await reasonOf(openRequest(type)), OPEN_FAILURE.UNKNOWN_CHANNEL_TYPE);
      }
      const small = openRequest('session', { packet: 0 });
      assert.equal(await reasonOf(small), OPEN_FAILURE.CONNECT_FAILED);
      for (let open = 0; open < 3; open += 1) await peer.session();
      assert.equal(await reasonOf(openRequest('session')), OPEN_FAILURE.RESOURCE_SHORTAGE);
    });

    it('counts channels that it has not answered yet', async () => {
      const peer = await loggedIn();
      peer.send(...Array.from({ length: 4 }, (_, id) => openRequest('session', { id })));
      const numbers = await peer.numbers(4);
      assert.equal(numbers.filter((n) => n === MESSAGE.CHANNEL_OPEN_FAILURE).length, 1);
    });

    it('gives a channel free that the client closes before anything ran on it', async () => {
      const peer = await loggedIn();
      for (let round = 0; round < 5; round += 1) {
        const id = await peer.session();
        peer.send(message(MESSAGE.CHANNEL_CLOSE).u32(id).finish());
        await peer.next(MESSAGE.CHANNEL_CLOSE);
      }
      assert.deepEqual(
        served.asked,
        Array.from({ length: 5 }, () => 'closed'),
      );
    });

    it('holds a client to its word that it opens no more sessions', async () => {
      const peer = await loggedIn();
      await peer.session('cat');
      peer.send(globalRequest('no-more-sessions@openssh.com'));
      assert.deepEqual(await peer.numbers(1), [MESSAGE.REQUEST_SUCCESS]);
      const where = new SshWriter().string('x').u32(22).string('').u32(0).finish();
      peer.send(openRequest('direct-tcpip', { id: 1, more: Buffer.from(where) }));
      await peer.next(MESSAGE.CHANNEL_OPEN_CONFIRMATION);
      peer.send(openRequest('session', { id: 2 }));
      assert.match(await peer.ending(), /opens no more/);
      await served.connection.closed;
      assert.deepEqual(served.asked, ['exec cat', 'closed']);
    });

    it('keeps nothing of an output that the client does not take, and closes without its window', async () => {
      const peer = await loggedIn();
      peer.send(openRequest('session', { window: 10 }));
      const reader = await peer.next(MESSAGE.CHANNEL_OPEN_CONFIRMATION);
      reader.u32();
      const id = reader.u32();
      peer.send(channelRequest(id, 'eow@openssh.com'));
      await peer.next(MESSAGE.CHANNEL_FAILURE);
      peer.send(channelRequest(id, 'shell'));
      await peer.next(MESSAGE.CHANNEL_SUCCESS);
      const channel = served.channels[0] ?? assert.fail();
      for (let n = 0; n < 10; n += 1) channel.output.write(Buffer.alloc(64 * 1024));
      await peer.next(MESSAGE.CHANNEL_DATA);
      assert.equal(channel.output.writableNeedDrain, true);
      channel.output.once('drain', () => served.asked.push('drain'));
      peer.send(channelRequest(id, 'eow@openssh.com', undefined, false));
      await eventually(() => !channel.output.writableNeedDrain);
      channel.output.write('late');
      assert.deepEqual([channel.output.writableLength, peer.received], [0, []]);
      channel.exit({ code: 7 });
      assert.deepEqual(await peer.numbers(3), [
        ...[MESSAGE.CHANNEL_EOF, MESSAGE.CHANNEL_REQUEST, MESSAGE.CHANNEL_CLOSE],
      ]);
      // The relay is told before there is room, for which it would read on.
      assert.deepEqual(served.asked, ['shell ', 'output refused', 'drain']);
    });

    it('sends the second output on after the first is not taken', async () => {
      const peer = await loggedIn();
      const id = await peer.session('cat');
      peer.send(channelRequest(id, 'eow@openssh.com', undefined, false));
      await eventually(() => served.asked.includes('output refused'));
      const { output, errors } = served.channels[0] ?? assert.fail();
      output.write('not this');
      errors.write('but this');
      const said = await peer.next(MESSAGE.CHANNEL_EXTENDED_DATA);
      said.u32();
      said.u32();
      assert.equal(String(said.string()), 'but this');
    });

    it('ends at such a refusal with bytes after it', async () => {
      const peer = await loggedIn();
      const id = await peer.session('cat');
      peer.send(channelRequest(id, 'eow@openssh.com', Buffer.of(0), false));
      await peer.ending();
      assert.deepEqual(served.asked, ['exec cat', 'closed']);
    });

    it('answers each other global request with a failure', async () => {
      const peer = await loggedIn();
      const forward = new SshWriter().string('0.0.0.0').u32(0).finish();
      const requests = [
        globalRequest('tcpip-forward', forward),
        globalRequest('streamlocal-forward@openssh.com', new SshWriter().string('/x').finish()),
        globalRequest('keepalive@openssh.com'),
        globalRequest('hostkeys-prove-00@openssh.com', new SshWriter().string('x').finish()),
      ];
      peer.send(...requests);
      assert.deepEqual(
        await peer.numbers(requests.length),
        requests.map(() => MESSAGE.REQUEST_FAILURE),
      );
    });

    it('sends what a program writes as it starts only after the answer to the start', async () => {
      const peer = await loggedIn({
        handlers: {
          authenticate: async () => ({ accepted: true }),
          session: async () => ({
            ...{ pty: () => false, env: () => false, resized: () => undefined },
            ...{ signalled: () => undefined, outputRefused: () => undefined },
            closed: () => undefined,
            start: (_, { output, exit }) => {
              output.write('at once');
              exit({ code: 3 });
              return true;
            },
          }),
          directTcpip: () => Promise.reject(new Error('unused')),
        },
      });
      const id = await peer.session();
      peer.send(channelRequest(id, 'shell'));
      assert.deepEqual(await peer.numbers(5), [
        MESSAGE.CHANNEL_SUCCESS,
        MESSAGE.CHANNEL_DATA,
        MESSAGE.CHANNEL_EOF,
        MESSAGE.CHANNEL_REQUEST,
        MESSAGE.CHANNEL_CLOSE,
      ]);
    });

    it('sends no more than the window that the client gives, and tells the exit after', async () => {
      const peer = await loggedIn();
      peer.send(openRequest('session', { id: 7, window: 10, packet: 256 }));
      const confirmed = await peer.next(MESSAGE.CHANNEL_OPEN_CONFIRMATION);
      assert.equal(confirmed.u32(), 7);
      const id = confirmed.u32();
      peer.send(channelRequest(id, 'shell'));
      await peer.next(MESSAGE.CHANNEL_SUCCESS);
      const [channel] = served.channels;
      channel?.output.write('0123456789abcdef');
      channel?.exit({ code: 0 });
      const first = await peer.next(MESSAGE.CHANNEL_DATA);
      first.u32();
      assert.equal(first.text(), '0123456789');
      assert.deepEqual(peer.received, []);
      peer.send(adjust(id, 100));
      const second = await peer.next(MESSAGE.CHANNEL_DATA);
      second.u32();
      assert.equal(second.text(), 'abcdef');
      assert.deepEqual(await peer.numbers(3), [
        MESSAGE.CHANNEL_EOF,
        MESSAGE.CHANNEL_REQUEST,
        MESSAGE.CHANNEL_CLOSE,
      ]);
    });
  });

  describe('in what it costs', () => {
    it('lets others have their turn amid many small messages', async () => {
      const peer = await loggedIn();
      const id = await peer.session();
      const variable = new SshWriter().string('LANG').string('C').finish();
      const requests = Array.from({ length: 2000 }, () =>
        channelRequest(id, 'env', variable, false),
      );
      peer.send(...requests);
      while (served.asked.length === 0) await new Promise((resolve) => setImmediate(resolve));
      assert.ok(served.asked.length < 2000, `${served.asked.length} at once`);
      await eventually(() => served.asked.length === 2000);
    });

    it('shares one window of 4 MiB among the channels of a connection', async () => {
      const peer = await loggedIn({ maximumChannels: 10 });
      const open = async () => {
        peer.send(openRequest('session'));
        const confirmed = await peer.next(MESSAGE.CHANNEL_OPEN_CONFIRMATION);
        confirmed.u32();
        return { id: confirmed.u32(), window: confirmed.u32() };
      };
      const channels = [];
      for (let count = 0; count < 10; count += 1) channels.push(await open());
      const windows = channels.map(({ window }) => window);
      assert.deepEqual(windows.slice(0, 3), [2 ** 21, 2 ** 20, 2 ** 19]);
      assert.ok(windows.every((window) => window >= 2 * 32_768));
      const sum = windows.reduce((all, window) => all + window);
      assert.ok(sum <= 4.5 * 2 ** 20, `${sum} bytes`);
      for (const { id } of channels) peer.send(message(MESSAGE.CHANNEL_CLOSE).u32(id).finish());
      await eventually(() => served.asked.length === 10);
      assert.equal((await open()).window, 2 ** 21);
    });

    it('lets a client go that asks and never reads the answers', async () => {
      const peer = await loggedIn({ limits: { ...LIMITS, pendingBytes: 64 * 1024 } });
      served.stream.pause();
      for (let sent = 0; sent < 5000; sent += 1) peer.send(globalRequest('keepalive@openssh.com'));
      await served.connection.closed;
    });

    it('sends the answers to what came at once in one piece', async () => {
      const peer = await loggedIn();
      let pieces = 0;
      served.stream.on('data', () => {
        pieces += 1;
      });
      peer.send(...Array.from({ length: 100 }, () => globalRequest('keepalive@openssh.com')));
      const answers = await peer.numbers(100);
      assert.ok(answers.every((number) => number === MESSAGE.REQUEST_FAILURE));
      assert.ok(pieces < 10, `${pieces} pieces`);
    });

    it('lets a client go that asks on and never answers to new keys', async () => {
      const peer = await loggedIn({ limits: { ...LIMITS, rekeyBytes: 0 } });
      served.stream.pause();
      for (let sent = 0; sent < 2000; sent += 1) peer.send(globalRequest('keepalive@openssh.com'));
      await served.connection.closed;
    });

    it('keeps nothing that a program writes beyond a window however large', async () => {
      const peer = await loggedIn();
      peer.send(openRequest('session', { window: 2 ** 32 - 1 }));
      const confirmed = await peer.next(MESSAGE.CHANNEL_OPEN_CONFIRMATION);
      confirmed.u32();
      peer.send(channelRequest(confirmed.u32(), 'shell'));
      await peer.next(MESSAGE.CHANNEL_SUCCESS);
      served.stream.pause();
      const [channel] = served.channels;
      assert.ok(channel !== undefined);
      let written = 0;
      const fill = () => {
        while (channel.output.write(Buffer.alloc(32_768))) written += 32_768;
      };
      channel.output.on('drain', fill);
      fill();
      await new Promise((resolve) => setTimeout(resolve, 200));
      assert.ok(written < 2 ** 20, `${written} bytes`);
      assert.equal(peer.over, undefined);
    });
  });

  it('answers a message that it does not know, and goes on', async () => {
    const peer = await loggedIn();
    let answered = 0;
    served.stream.on('data', (data: Buffer) => {
      answered += data.length;
    });
    for (const number of [192, 25]) {
      answered = 0;
      peer.send(message(number).finish());
      await eventually(() => answered > 0);
    }
    assert.equal(await peer.session(), 0);
  });

  it('ends when the client says so', async () => {
    const peer = await loggedIn();
    await peer.session('cat');
    peer.send(disconnectMessage(DISCONNECT.BY_APPLICATION, 'bye'));
    await served.connection.closed;
    assert.deepEqual(served.asked, ['exec cat', 'closed']);
  });
});

function confirmation(id: number): Buffer {
  const head = message(MESSAGE.CHANNEL_OPEN_CONFIRMATION).u32(id).u32(0);
  return head.u32(1000).u32(1000).finish();
}

function failure(id: number): Buffer {
  const head = message(MESSAGE.CHANNEL_OPEN_FAILURE).u32(id).u32(1);
  return head.string('').string('').finish();
}
