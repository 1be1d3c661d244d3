import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, stat } from 'node:fs/promises';
import http2 from 'node:http2';
import net from 'node:net';
import { promisify } from 'node:util';
import { parseTrustDomain } from '../../identity/spiffe-id.ts';
import { AgentUnderTest } from '../../test/fakes/agent-under-test.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { FakeSpireServer } from '../../test/fakes/spire-server.ts';
import { skipWithout } from '../../test/fixtures/programs.ts';

const HEADER = 'workload.spiffe.io';
const INVALID_ARGUMENT = 3;
const UNIMPLEMENTED = 12;

const run = promisify(execFile);

/** Prints the first message of FetchX509SVID, as bytes. */
const ASK = `
  const session = require('node:http2').connect('http://localhost',
    { createConnection: () => require('node:net').connect(process.argv[1]) });
  const call = session.request({ ':method': 'POST', ':path': '/SpiffeWorkloadAPI/FetchX509SVID',
    'content-type': 'application/grpc', te: 'trailers', '${HEADER}': 'true' });
  call.on('data', (bytes) => { process.stdout.write(bytes.toString('latin1')); process.exit(); });
  call.end(Buffer.alloc(5));`;

/** The gRPC status that the API answers a call with, sent with exactly these headers. */
function statusOf(
  socketPath: string,
  method: string,
  header: string | string[] | undefined,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const session = http2.connect('http://localhost', {
      createConnection: () => net.connect(socketPath),
    });
    session.once('error', reject);
    const call = session.request({
      ':method': 'POST',
      ':path': `/SpiffeWorkloadAPI/${method}`,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...(header === undefined ? {} : { [HEADER]: header }),
    });
    let status: unknown;
    const note = (headers: http2.IncomingHttpHeaders) => {
      status = headers['grpc-status'] ?? status;
    };
    call.on('response', note);
    call.on('trailers', note);
    call.resume();
    call.once('error', reject);
    call.once('close', () => {
      session.close();
      resolve(Number(status));
    });
    call.end(Buffer.alloc(5));
  });
}

describe('listenWorkloadApi', () => {
  let server: FakeSpireServer;
  let agent: AgentUnderTest;
  before(async () => {
    const authority = await FakeAuthority.create(parseTrustDomain('example.org'));
    server = await FakeSpireServer.start({ authority });
    server.setEntries(
      [0, 65_534].map((uid) => ({
        id: `entry-${uid}`,
        spiffeId: { trustDomain: 'example.org', path: uid === 0 ? '/root' : '/nobody' },
        selectors: [{ type: 'unix', value: `uid:${uid}` }],
      })),
    );
    agent = await AgentUnderTest.create(server);
    await agent.start();
  });
  after(async () => {
    await agent[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });

  it('opens its socket to everybody', async () => {
    assert.equal((await stat(agent.socketPath)).mode & 0o777, 0o777);
  });

  const METHODS = [
    'FetchX509SVID',
    'FetchX509Bundles',
    'FetchJWTSVID',
    'FetchJWTBundles',
    'ValidateJWTSVID',
    'FetchWITSVID',
  ];
  for (const method of METHODS) {
    it(`refuses ${method} unless the security header is there once, as true`, async () => {
      for (const header of [undefined, 'True', 'false', '', 'true,true', ['true', 'true']]) {
        const status = await statusOf(agent.socketPath, method, header);
        assert.equal(status, INVALID_ARGUMENT, JSON.stringify(header));
      }
    });
  }

  for (const method of ['FetchWITSVID', 'FetchWITBundles', 'NoSuchMethod']) {
    it(`answers UNIMPLEMENTED to ${method}`, async () => {
      assert.equal(await statusOf(agent.socketPath, method, 'true'), UNIMPLEMENTED);
    });
  }

  it('gives nothing to a process that holds the connection of one that has ended', async () => {
    // The first process connects, leaves the socket to a child and ends; then the child asks.
    const heir = `setTimeout(() => {
      const socket = new (require('node:net').Socket)({ fd: 3 });
      const session = require('node:http2').connect('http://localhost', { createConnection: () => socket });
      const call = session.request({ ':method': 'POST', ':path': '/SpiffeWorkloadAPI/FetchX509SVID',
        'content-type': 'application/grpc', te: 'trailers', '${HEADER}': 'true' });
      const note = (headers) => headers['grpc-status'] && console.log(headers['grpc-status'], headers['grpc-message']);
      call.on('response', note); call.on('trailers', note); call.resume();
      call.on('close', () => process.exit()); call.end(Buffer.alloc(5));
    }, 300)`;
    const first = `const socket = require('node:net').connect(process.argv[1], () => {
      require('node:child_process').spawn(process.execPath, ['-e', process.argv[2]],
        { stdio: ['ignore', 'inherit', 'inherit', socket] }).unref();
      process.exit();
    })`;
    const { stdout } = await run(process.execPath, ['-e', first, agent.socketPath, heir]);
    assert.equal(stdout.trim(), '7 the%20calling%20process%20has%20ended');
  });

  it('knows a caller by the user it runs as', async function () {
    if (process.getuid?.() !== 0) skipWithout(this, 'root, who may run as another user');
    await chmod(agent.directory, 0o755);
    const asNobody = { uid: 65_534, gid: 65_534 };
    const ask = (options: object) =>
      run(process.execPath, ['-e', ASK, agent.socketPath], options).then(({ stdout }) => stdout);
    assert.match(await ask(asNobody), /spiffe:\/\/example\.org\/nobody/);
    assert.doesNotMatch(await ask(asNobody), /spiffe:\/\/example\.org\/root/);
    assert.match(await ask({}), /spiffe:\/\/example\.org\/root/);
  });

  it('closes a connection that sends garbage, and serves the next', async () => {
    const socket = net.connect(agent.socketPath);
    socket.on('error', () => undefined);
    socket.end(Buffer.alloc(4096, 0x5a));
    await new Promise((resolve) => socket.resume().once('close', resolve));
    assert.equal(await statusOf(agent.socketPath, 'FetchWITSVID', 'true'), UNIMPLEMENTED);
  });
});
