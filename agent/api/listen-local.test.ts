import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, stat } from 'node:fs/promises';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { systemClock } from '../../runtime/clock.ts';
import { createLogger } from '../../runtime/log.ts';
import { skipWithout } from '../../test/fixtures/programs.ts';
import { listenLocal } from './listen-local.ts';

const lines: string[] = [];
const log = createLogger(
  { process: 'agent', level: 'info' },
  { write: (line) => lines.push(line) },
);
const NOBODY = { uid: 65_534, gid: 65_534 };

/** Connects three times, then says how many connections are still open. */
const CONNECT = `
  const net = require('node:net');
  let open = 3;
  for (let n = 0; n < 3; n++) {
    const socket = net.connect(process.argv[1]);
    socket.on('error', () => undefined);
    socket.once('close', () => { open -= 1; });
  }
  setTimeout(() => { console.log(open); process.exit(); }, 300);`;

describe('listenLocal', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'writ-local-'));
    await chmod(directory, 0o755);
  });
  afterEach(() => rm(directory, { recursive: true }));

  const listen = async (parts: { onRefused?: () => void } = {}) => {
    const path = join(directory, 'run', 'a.sock');
    const sockets: net.Socket[] = [];
    const listener = await listenLocal({
      ...{ path, log, clock: systemClock, connectionsPerUser: 2 },
      onConnection: (socket) => sockets.push(socket),
      onRefused: () => undefined,
      ...parts,
    });
    return { listener, path, sockets };
  };
  const connect = async (path: string, user: object) =>
    Number((await promisify(execFile)(process.execPath, ['-e', CONNECT, path], user)).stdout);

  it('makes a directory that everybody may enter, and a socket that everybody may use', async () => {
    const { listener, path } = await listen();
    await using _ = listener;
    assert.equal((await stat(join(directory, 'run'))).mode & 0o777, 0o755);
    assert.equal((await stat(path)).mode & 0o777, 0o777);
  });

  it('turns away the connections that are too many of one user, and takes them again later', async function () {
    if (process.getuid?.() !== 0) skipWithout(this, 'root, who may run as another user');
    let refused = 0;
    lines.length = 0;
    const { listener, path } = await listen({ onRefused: () => void refused++ });
    await using _ = listener;
    assert.equal(await connect(path, NOBODY), 2);
    assert.equal(refused, 1);
    assert.equal(await connect(path, NOBODY), 2);
    assert.equal(refused, 2);
    assert.equal(lines.length, 1, 'the log cannot be filled by it');
    assert.equal(await connect(path, {}), 3, 'the own user is not limited');
  });

  it('refuses a path whose directory cannot be made', async () => {
    const options = {
      ...{ path: '/proc/none/a.sock', log, clock: systemClock, connectionsPerUser: 1 },
      onConnection: () => undefined,
      onRefused: () => undefined,
    };
    await assert.rejects(listenLocal(options), { code: 'STATE_UNUSABLE' });
  });
});
