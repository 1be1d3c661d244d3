import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type tls from 'node:tls';
import {
  closed,
  firstBytes,
  Harness,
  ids,
  rawConnect,
  svidOf,
} from '../test/fixtures/svid-server.ts';

describe('SvidServer with a preface', () => {
  /** Reads `PRE` if it comes, and answers `S`; a first byte of TLS is put back. */
  async function preface(socket: net.Socket, signal: AbortSignal): Promise<'tls' | 'done'> {
    const [bytes] = (await once(socket, 'data', { signal })) as [Buffer];
    socket.pause();
    if (bytes[0] === 0x16) {
      socket.unshift(bytes);
      return 'tls';
    }
    if (bytes.subarray(0, 3).toString() === 'END') {
      socket.end('bye');
      return 'done';
    }
    if (bytes.subarray(0, 3).toString() !== 'PRE') throw new Error('no preface');
    if (bytes.length > 3) socket.unshift(bytes.subarray(3));
    socket.write('S');
    return 'tls';
  }

  async function upgrade(harness: Harness, raw: net.Socket): Promise<tls.TLSSocket> {
    raw.write('PRE');
    assert.equal(await firstBytes(raw), 'S');
    return harness.connect(svidOf(ids.web), { socket: raw });
  }

  it('goes on to TLS after it', async () => {
    await using harness = await Harness.start({ preface });
    const client = await upgrade(harness, rawConnect(harness.port));
    assert.equal(await firstBytes(client), 'hello');
    assert.equal(harness.connections[0]?.direct, false);
    client.destroy();
  });

  it('takes a client that begins with TLS at once', async () => {
    await using harness = await Harness.start({ preface });
    const client = harness.connect(svidOf(ids.web));
    assert.equal(await firstBytes(client), 'hello');
    assert.equal(harness.connections[0]?.direct, true);
    client.destroy();
  });

  it('takes a ClientHello that came in one packet with the preface, or byte by byte', async () => {
    await using harness = await Harness.start({ preface });
    for (const piece of [Number.POSITIVE_INFINITY, 1]) {
      const relay = net.createServer((near) => {
        const far = rawConnect(harness.port);
        near.on('error', () => undefined);
        let answered = false;
        // Holds the preface back until the ClientHello is there, and takes its answer away.
        far.on('data', (bytes) => {
          near.write(answered ? bytes : bytes.subarray(1));
          answered = true;
        });
        near.once('data', (hello: Buffer) => {
          const all = Buffer.concat([Buffer.from('PRE'), hello]);
          const step = Math.min(piece, all.length);
          far.setNoDelay(true);
          if (piece === 1) {
            far.write(all.subarray(0, 3));
            for (let at = 3; at < all.length; at += step) far.write(all.subarray(at, at + step));
          } else far.write(all);
          near.on('data', (more) => far.write(more));
        });
        near.on('close', () => far.destroy());
      });
      relay.listen(0, '127.0.0.1');
      await once(relay, 'listening');
      const { port } = relay.address() as net.AddressInfo;
      const client = harness.connect(svidOf(ids.web), { port });
      assert.equal(await firstBytes(client), 'hello');
      client.destroy();
      relay.close();
    }
    assert.deepEqual(
      harness.connections.map(({ direct }) => direct),
      [false, false],
    );
  });

  it('is over when the preface has answered and closed', async () => {
    await using harness = await Harness.start({ preface });
    const raw = rawConnect(harness.port);
    raw.write('END');
    assert.equal(await firstBytes(raw), 'bye');
    await closed(raw);
    assert.deepEqual(harness.refusals, []);
    assert.deepEqual(harness.connections, []);
  });

  it('refuses what the preface cannot read', async () => {
    await using harness = await Harness.start({ preface });
    const raw = rawConnect(harness.port);
    raw.write('garbage');
    await closed(raw);
    assert.deepEqual(harness.reasons, ['preface malformed']);
  });

  it('ends a preface that takes too long, and tells it by its signal', async () => {
    let aborted = false;
    await using harness = await Harness.start({
      handshakeTimeoutMs: 100,
      preface: (_socket, signal) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => {
            aborted = true;
            reject(signal.reason);
          });
        }),
    });
    await closed(rawConnect(harness.port));
    assert.equal(aborted, true);
    assert.deepEqual(harness.reasons, ['handshake took too long']);
  });

  it('counts the time of preface and handshake together', async () => {
    await using harness = await Harness.start({ preface, handshakeTimeoutMs: 1500 });
    const raw = rawConnect(harness.port);
    const start = performance.now();
    await sleep(1200);
    raw.write('PRE');
    await closed(raw);
    // Two timers of their own would take 2700 ms.
    assert.ok(performance.now() - start < 2600);
    assert.deepEqual(harness.reasons, ['handshake took too long']);
  });
});
