/** Two go-spiffe peers, each on an agent of its own, while SVIDs and authorities rotate under them. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Closers } from '../../runtime/closers.ts';
import { hasProgram, skipWithout } from '../fixtures/programs.ts';
import { runProgram } from '../fixtures/writ-up.ts';
import {
  runWrit,
  startAgent,
  startServer,
  TRUST_DOMAIN,
  type WritServer,
} from './writ-processes.ts';

const CA_SECONDS = 60;
const SVID_SECONDS = 10;
const DURATION_SECONDS = 180;
/** One is replaced when a sixth of its life is left. */
const AUTHORITIES = 1 + Math.floor(DURATION_SECONDS / CA_SECONDS);
/** Of two peers, each of which gets a new one before the last one's end. */
const SVIDS = 2 * Math.floor(DURATION_SECONDS / SVID_SECONDS);
const HERE = dirname(fileURLToPath(import.meta.url));

describe('the rotation of authorities', () => {
  const closers = new Closers();
  let folder: string;

  before(async function () {
    if (!hasProgram('go')) skipWithout(this, 'Go');
    folder = await mkdtemp(join(tmpdir(), 'wr-'));
    closers.defer(() => rm(folder, { recursive: true, force: true }));
  });
  after(function () {
    this.timeout(60_000);
    return closers[Symbol.asyncDispose]();
  });

  /** An agent, and an entry of this user's processes on it. */
  async function startPeer(server: WritServer, name: string) {
    const node = `spiffe://${TRUST_DOMAIN}/node/${name}`;
    const id = `spiffe://${TRUST_DOMAIN}/peer/${name}`;
    const joinString = await writ(server, 'token', 'create', '--agent-id', node);
    const agent = await startAgent(join(folder, name), server.address, joinString);
    closers.defer(async () => agent.process[Symbol.asyncDispose]());
    const selector = `unix:uid:${process.getuid?.()}`;
    const entry = ['--spiffe-id', id, '--parent-id', node, '--selector', selector];
    await writ(server, 'entry', 'create', ...entry);
    return { id, socket: agent.workloadApi };
  }

  it(`with a CA of ${CA_SECONDS} s and SVIDs of ${SVID_SECONDS} s fails no handshake in ${DURATION_SECONDS} s`, async () => {
    const program = join(folder, 'rotation');
    const built = await runProgram('go', ['build', '-o', program, './rotation'], {
      cwd: join(HERE, 'go'),
      timeoutMs: 600_000,
    });
    assert.equal(built.status, 0, built.stderr);
    const server = await startServer(join(folder, 'server'), {
      ca: { ttl: `${CA_SECONDS}s` },
      ttl: { x509_svid: `${SVID_SECONDS}s`, agent_svid: `${SVID_SECONDS}s` },
    });
    closers.defer(async () => server.process[Symbol.asyncDispose]());
    const client = await startPeer(server, 'client');
    const listener = await startPeer(server, 'server');
    const { status, stdout, stderr } = await runProgram(
      program,
      [
        ...['-client', client.socket, '-client-id', client.id],
        ...['-server', listener.socket, '-server-id', listener.id, '-for', `${DURATION_SECONDS}s`],
      ],
      { timeoutMs: (DURATION_SECONDS + 60) * 1000 },
    );
    assert.equal(status, 0, stderr);
    const report = JSON.parse(stdout);
    assert.deepEqual(report.failures, []);
    assert.ok(report.handshakes > DURATION_SECONDS, `${report.handshakes} handshakes`);
    assert.ok(report.svids >= SVIDS, `${report.svids} SVIDs`);
    assert.ok(report.authorities.length >= AUTHORITIES, `${report.authorities.length} authorities`);
  }).timeout(900_000);
});

async function writ(server: WritServer, ...args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await runWrit(server, args);
  assert.equal(status, 0, stderr);
  return stdout.trim();
}
