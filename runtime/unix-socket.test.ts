import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Closers } from './closers.ts';
import type { Peer } from './peer-credentials.ts';
import { listenUnix, type UnixListenOptions } from './unix-socket.ts';

describe('listenUnix', () => {
  let closers: Closers;
  let path: string;
  let taken: { socket: net.Socket; peer: Peer }[];

  beforeEach(async () => {
    closers = new Closers();
    taken = [];
    const directory = await mkdtemp(join(tmpdir(), 'writ-unix-'));
    path = join(directory, 's');
    closers.defer(async () => rm(directory, { recursive: true }));
  });

  afterEach(() => closers[Symbol.asyncDispose]());

  const listen = async (overrides: Partial<UnixListenOptions> = {}) => {
    const listener = await listenUnix({
      path,
      mode: 0o600,
      onConnection: (socket, peer) => taken.push({ socket, peer }),
      ...overrides,
    });
    closers.defer(async () => listener[Symbol.asyncDispose]());
    return listener;
  };

  it('hands on each connection with its peer, and lets go of it when it closes', async () => {
    await listen();
    const client = net.connect(path);
    await once(client, 'connect');
    await new Promise((resolve) => setTimeout(resolve, 20));
    const [connection] = taken;
    assert.ok(connection);
    assert.equal(connection.peer.pid, process.pid);
    assert.equal(connection.peer.alive(), true);
    const closed = once(connection.socket.resume(), 'close');
    client.destroy();
    await closed;
    assert.equal(connection.peer.alive(), false);
  });

  for (const mode of [0o600, 0o660, 0o777]) {
    it(`gives the socket mode ${mode.toString(8)}, whatever the umask`, async () => {
      const before = process.umask();
      await listen({ mode });
      assert.equal((await stat(path)).mode & 0o777, mode);
      assert.equal(process.umask(), before);
    });
  }

  it('takes the place of a socket that nobody listens on', async () => {
    const script = `net.createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`;
    assert.throws(() => execFileSync(process.execPath, ['-e', script]));
    assert.ok((await stat(path)).isSocket());
    await listen();
    await once(net.connect(path), 'connect');
  });

  it('refuses a path where another process listens, and leaves it alone', async () => {
    await listen();
    await assert.rejects(listen(), {
      code: 'STATE_UNUSABLE',
      message: `another process listens on ${path}`,
    });
    await once(net.connect(path), 'connect');
  });

  it('refuses what is there and is no socket, and a directory that is not', async () => {
    await writeFile(path, 'precious');
    await assert.rejects(listen(), { code: 'STATE_UNUSABLE' });
    assert.equal((await stat(path)).size, 8);
    await assert.rejects(listen({ path: `${path}.d/s` }), { code: 'STATE_UNUSABLE' });
  });

  it('refuses a path above 107 bytes, counted in bytes', async () => {
    const room = 107 - Buffer.byteLength(path) - 1;
    await assert.rejects(listen({ path: `${path}-${'é'.repeat(Math.ceil((room + 1) / 2))}` }), {
      code: 'STATE_UNUSABLE',
    });
    await listen({ path: `${path}-${'x'.repeat(room)}` });
  });

  it('closes its connections and removes its file when disposed, however often', async () => {
    const listener = await listen();
    const client = net.connect(path);
    await once(client, 'connect');
    const closed = once(client.resume(), 'close');
    await listener[Symbol.asyncDispose]();
    await listener[Symbol.asyncDispose]();
    await closed;
    await assert.rejects(stat(path), { code: 'ENOENT' });
  });
});
