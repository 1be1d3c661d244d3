import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Closers } from './closers.ts';
import { holdProcess, openPidfd, peerCredentials } from './peer-credentials.ts';

describe('peerCredentials', () => {
  let closers: Closers;
  let server: net.Server;
  let path: string;

  beforeEach(async () => {
    closers = new Closers();
    const directory = await mkdtemp(join(tmpdir(), 'writ-peer-'));
    path = join(directory, 's');
    server = net.createServer();
    await once(server.listen(path), 'listening');
    closers.defer(async () => rm(directory, { recursive: true }));
    closers.defer(async () => {
      server.close();
    });
  });

  afterEach(() => closers[Symbol.asyncDispose]());

  const accept = async (): Promise<net.Socket> => {
    const [socket] = (await once(server, 'connection')) as [net.Socket];
    socket.on('error', () => undefined);
    closers.defer(async () => {
      socket.destroy();
    });
    return socket;
  };

  const run = (script: string): ChildProcess => {
    const child = spawn(process.execPath, ['-e', script], {
      env: { ...process.env, SOCKET: path },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    closers.defer(async () => {
      child.kill('SIGKILL');
    });
    return child;
  };

  const eventually = async (holds: () => boolean): Promise<void> => {
    for (let n = 0; n < 100 && !holds(); n++) await sleep(20);
    assert.ok(holds());
  };

  it('names the process that connected, and tells when it has exited', async () => {
    const child = run(`net.connect(process.env.SOCKET)`);
    const peer = peerCredentials(await accept());
    assert.deepEqual(
      [peer.pid, peer.uid, peer.gid],
      [child.pid, process.getuid?.(), process.getgid?.()],
    );
    assert.equal(peer.alive(), true);
    child.kill('SIGKILL');
    await eventually(() => !peer.alive());
    peer.close();
  });

  it('is not fooled when the socket outlives the process that opened it', async () => {
    run(`
      const socket = net.connect(process.env.SOCKET, () => {
        const heir = child_process.spawn('sleep', ['3'], { stdio: [socket, 'ignore', 'ignore'], detached: true });
        heir.unref();
        setTimeout(() => process.exit(), 50);
      });`);
    const socket = await accept();
    const peer = peerCredentials(socket);
    await eventually(() => !peer.alive());
    assert.equal(socket.readableEnded, false, 'the heir still holds the socket');
    peer.close();
  });

  it('takes no descriptor with it, and counts as gone once closed', async () => {
    const client = net.connect(path);
    const socket = await accept();
    closers.defer(async () => {
      client.destroy();
    });
    const open = async () => (await readdir('/proc/self/fd')).length;
    const before = await open();
    for (let n = 0; n < 100; n++) {
      const peer = peerCredentials(socket);
      assert.equal(peer.alive(), true);
      peer.close();
      peer.close();
      assert.equal(peer.alive(), false);
    }
    assert.equal(await open(), before);
  });

  it('refuses a socket that the kernel cannot tell the peer of', async () => {
    assert.throws(() => peerCredentials(new net.Socket()), { code: 'ATTESTATION_DENIED' });
    const tcp = net.createServer();
    await once(tcp.listen(0, '127.0.0.1'), 'listening');
    const client = net.connect((tcp.address() as net.AddressInfo).port, '127.0.0.1');
    const [socket] = (await once(tcp, 'connection')) as [net.Socket];
    assert.throws(() => peerCredentials(socket), { code: 'ATTESTATION_DENIED' });
    for (const end of [client, socket, tcp]) 'destroy' in end ? end.destroy() : end.close();
  });
});

describe('holdProcess', () => {
  it('tells when the process has exited, and counts it as gone once closed', async () => {
    const child = spawn('sleep', ['60']);
    await once(child, 'spawn');
    assert.ok(child.pid);
    const [watched, letGo] = [holdProcess(child.pid), holdProcess(child.pid)];
    assert.deepEqual([watched.pid, watched.alive(), letGo.alive()], [child.pid, true, true]);
    letGo.close();
    letGo.close();
    assert.deepEqual([watched.alive(), letGo.alive()], [true, false]);
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.equal(watched.alive(), false);
    watched.close();
  });

  it('is not misled by signals to this process', async () => {
    const onSignal = () => undefined;
    process.on('SIGWINCH', onSignal);
    const script = `while kill -WINCH ${process.pid} 2>/dev/null; do :; done`;
    const sender = spawn('sh', ['-c', script], { stdio: 'ignore' });
    const self = holdProcess(process.pid);
    try {
      for (let turn = 0; turn < 20; turn += 1) {
        for (let at = 0; at < 1000; at += 1) assert.equal(self.alive(), true);
        await new Promise((resolve) => setImmediate(resolve));
      }
    } finally {
      self.close();
      sender.kill('SIGKILL');
      await once(sender, 'exit');
      process.removeListener('SIGWINCH', onSignal);
    }
  });

  it('refuses a pid that is nobody', () => {
    assert.throws(() => holdProcess(2 ** 22 + 1), { code: 'ATTESTATION_DENIED' });
  });
});

describe('openPidfd', () => {
  it('opens a running process and refuses one that is not there', () => {
    assert.ok(openPidfd(process.pid) > 0);
    assert.throws(() => openPidfd(2 ** 22 + 1), { code: 'ATTESTATION_DENIED' });
  });
});
