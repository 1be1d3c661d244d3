import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { SshWriter } from '../../../../identity/ssh/wire.ts';
import {
  channelData,
  channelRequest,
  globalRequest,
  keyRequest,
  openRequest,
  RawPeer,
  ServedPeer,
  serviceRequest,
} from '../../../../test/fixtures/ssh2-raw.ts';
import { MESSAGE, message } from './ssh2-messages.ts';
import { streamPair } from './ssh2-stream-pair.ts';

const RUNS = 200;
const MESSAGES_A_RUN = 12;

/** Numbers that look random, and are the same in each run so that a failure can be had again. */
function numbersOf(seed: string): (below: number) => number {
  let state = createHash('sha256').update(seed).digest();
  return (below) => {
    state = createHash('sha256').update(state).digest();
    return state.readUInt32BE() % below;
  };
}

/** The bytes with some of them changed, fewer of them, or more. */
function mutated(bytes: Buffer, random: (below: number) => number): Buffer {
  const changed = Buffer.from(bytes);
  for (let count = random(4); count > 0; count -= 1) {
    changed[random(changed.length)] = random(2) === 0 ? 0xff : random(256);
  }
  const length = random(4) === 0 ? random(changed.length) : changed.length;
  return Buffer.concat([changed.subarray(0, length), Buffer.alloc(random(6) === 0 ? 9 : 0)]);
}

const text = (...parts: string[]) => {
  const writer = new SshWriter();
  for (const part of parts) writer.string(part);
  return writer.finish();
};
const size = Buffer.alloc(16, 1);

/** Of a client; `id` is one of its channels. */
const KINDS: readonly ((id: number) => Buffer)[] = [
  () => openRequest('session'),
  () => openRequest('direct-tcpip', { more: Buffer.concat([text('web-1'), size, text('x')]) }),
  (id) => channelRequest(id, 'exec', text('cat')),
  (id) => channelRequest(id, 'env', text('LANG', 'C')),
  (id) => channelRequest(id, 'pty-req', Buffer.concat([text('xterm'), size, text('')])),
  (id) => channelRequest(id, 'window-change', size, false),
  (id) => channelRequest(id, 'signal', text('TERM'), false),
  (id) => channelData(id, Buffer.alloc(100)),
  (id) => message(MESSAGE.CHANNEL_WINDOW_ADJUST).u32(id).u32(1000).finish(),
  (id) => message(MESSAGE.CHANNEL_CLOSE).u32(id).finish(),
  () => globalRequest('keepalive@openssh.com'),
  () => Buffer.concat([message(MESSAGE.KEXINIT).finish(), Buffer.alloc(70)]),
  () => serviceRequest(),
  () => keyRequest(),
];

/** What a good client sends until there are keys. */
async function opening(): Promise<Buffer> {
  const served = new ServedPeer();
  const [near, far] = streamPair();
  const chunks: Buffer[] = [];
  far.on('data', (chunk: Buffer) => chunks.push(chunk));
  far.pipe(served.stream).pipe(far);
  await RawPeer.connect(near);
  await served.close();
  near.destroy();
  return Buffer.concat(chunks);
}

async function sendWhatever(
  peer: RawPeer,
  ids: readonly [number, number],
  random: (below: number) => number,
): Promise<void> {
  for (let count = 0; count < MESSAGES_A_RUN && peer.over === undefined; count += 1) {
    const payload = KINDS[random(KINDS.length)]?.(ids[random(2)] ?? 0) ?? serviceRequest();
    peer.send(random(3) === 0 ? mutated(payload, random) : payload);
    if (random(3) === 0) await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('serveSsh to a client that sends whatever', () => {
  const runs = (what: string, run: (random: (below: number) => number) => Promise<void>) =>
    Promise.all(Array.from({ length: RUNS }, (_, at) => run(numbersOf(`${what} ${at}`))));

  it('ends with its client before there are keys', async () => {
    const bytes = await opening();
    assert.ok(bytes.length > 500, `${bytes.length} bytes`);
    await runs('before', async (random) => {
      const served = new ServedPeer();
      served.stream.resume();
      const sent = mutated(bytes, random);
      for (let at = 0; at < sent.length; at += 200)
        served.stream.write(sent.subarray(at, at + 200));
      served.stream.end();
      await served.connection.closed;
      assert.deepEqual([served.attempts, served.asked], [[], []]);
    });
  });

  it('gives a stranger nothing', async () => {
    await runs('stranger', async (random) => {
      const served = new ServedPeer();
      await sendWhatever(await served.connect(), [0, 1], random);
      assert.deepEqual(served.asked, []);
      await served.close();
    });
  });

  it('ends the connection at most of one that is logged in', async () => {
    await runs('known', async (random) => {
      const served = new ServedPeer();
      const peer = await served.logIn();
      await sendWhatever(peer, [await peer.session(), await peer.session('cat')], random);
      await served.close();
    });
    const served = new ServedPeer();
    const peer = await served.logIn();
    assert.equal(await peer.session('cat'), 0);
    await served.close();
  });
});
