import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../../../../test/fakes/gateway-under-test.ts';
import { skipWithoutTerminals } from '../../../../test/fixtures/programs.ts';
import {
  DIRECT,
  type Outcome,
  outcomeOf,
  type SshTestClient,
  WEB,
} from '../../../../test/fixtures/ssh-client.ts';
import { recorded, SshGateway } from '../../../../test/fixtures/ssh-gateway.ts';
import { requireSshd } from '../../../../test/fixtures/ssh-target.ts';
import { MAXIMUM_SEGMENT_BYTES } from '../../../recording/segment.ts';

const MIB = 2 ** 20;
/** Promised: the end of a session is the end of all of it within a second. */
const PROMISED_MS = 1000;

describe('sshBackend, how it ends', function () {
  this.timeout(60_000);
  let gateway: SshGateway;
  let client: SshTestClient;
  let big: string;
  before(async function () {
    requireSshd(this);
    gateway = await SshGateway.start();
    client = await gateway.client();
    big = join(gateway.target.directory, 'big');
    await writeFile(big, '');
    await truncate(big, 4096 * MIB);
  });
  after(async () => {
    await gateway?.[Symbol.asyncDispose]();
  });
  beforeEach(() => until(() => gateway.target.isIdle));

  const revoke = (reason = 'the access was revoked: incident 7') =>
    gateway.server.revoke(
      { case: 'sessionId', value: gateway.lastSession },
      'session.kill',
      reason,
    );
  const closedReason = async () => recorded(await gateway.record()).closed[0]?.reason;
  const runs = (program: string) => until(() => gateway.target.programs.includes(program));

  /** Starts a client, and waits until its session is on the target. */
  async function opens(start: () => ChildProcess): Promise<{ child: ChildProcess }> {
    const before = gateway.lastSession;
    const child = start();
    await until(() => gateway.lastSession !== before);
    await until(() => gateway.target.log.includes(`session=${gateway.lastSession} `));
    return { child };
  }

  /** Milliseconds until the client has ended and nothing runs on the target any more. */
  async function ended(child: ChildProcess, start: number): Promise<{ ms: number } & Outcome> {
    const outcome = await outcomeOf(child);
    while (!gateway.target.isIdle) await sleep(5);
    return { ms: performance.now() - start, ...outcome };
  }

  describe('a session that is killed', () => {
    const line = 'writ: the access was revoked: incident 7';
    const cases: [string, () => Promise<ChildProcess>][] = [
      [
        'a shell in a terminal',
        async () => {
          const child = client.start(['-tt', 'web-1']);
          const mark = gateway.target.mark();
          child.stdin?.write(`${mark}\n`);
          await runs(mark);
          return child;
        },
      ],
      [
        'a shell without one',
        async () => {
          const child = client.start([...DIRECT]);
          const mark = gateway.target.mark();
          child.stdin?.write(`${mark}\n`);
          await runs(mark);
          return child;
        },
      ],
      [
        'a command',
        async () => {
          const mark = gateway.target.mark();
          const child = client.start(['web-1', mark]);
          await runs(mark);
          return child;
        },
      ],
      [
        'a command that does not listen to HUP',
        async () => {
          const mark = gateway.target.mark();
          const child = client.start([...DIRECT, `trap '' HUP; ${mark}; ${mark}`]);
          await runs(mark);
          return child;
        },
      ],
      [
        'a command that writes without end',
        async () => {
          const child = client.start(['web-1', 'cat /dev/zero']);
          await once(child.stdout ?? assert.fail(), 'data');
          child.stdout?.resume();
          return child;
        },
      ],
      [
        'an sftp transfer',
        async () => {
          const child = client.start(['-b', '-', 'web-1'], 'sftp');
          child.stdin?.end(`get ${big} sunk\n`);
          await until(() => gateway.target.isRunning('internal-sftp'));
          await sleep(300);
          return child;
        },
      ],
      [
        'an upload by sftp',
        async () => {
          const up = join(client.directory, 'up');
          await writeFile(up, '');
          await truncate(up, 4096 * MIB);
          const child = client.start(['-b', '-', 'web-1'], 'sftp');
          child.stdin?.end(`put up ${join(gateway.target.directory, 'put')}\n`);
          await until(() => gateway.target.isRunning('internal-sftp'));
          await sleep(300);
          return child;
        },
      ],
      [
        'a transfer by scp -O',
        async () => {
          const child = client.start(['-O', `web-1:${big}`, 'sunk'], 'scp');
          await until(() => gateway.target.isRunning(`scp -f ${big}`));
          await sleep(300);
          return child;
        },
      ],
      [
        'a client that only waits',
        async () => {
          const { child } = await opens(() => client.start(['-N', ...DIRECT]));
          return child;
        },
      ],
    ];
    for (const [what, start] of cases) {
      it(`ends ${what} within a second, says why, and leaves nothing on the target`, async function () {
        if (what === 'a shell in a terminal') skipWithoutTerminals(this);
        const child = await start();
        const outcome = ended(child, performance.now());
        revoke();
        const { ms, status, stderr } = await outcome;
        assert.ok(ms < PROMISED_MS, `${ms} ms`);
        assert.notEqual(status, 0);
        assert.equal(stderr.split(line).length - 1, 1, stderr);
        assert.equal(await closedReason(), 'the access was revoked: incident 7');
        const { channelOpened, channelClosed } = recorded(await gateway.record());
        assert.equal(channelClosed.length, channelOpened.length);
        for (const one of channelClosed) assert.equal(one.exitStatus, undefined);
      });
    }

    it('ends every channel of it, and no other session', async () => {
      const other = client.start([...DIRECT, 'cat']);
      const greeting = once(other.stdout ?? assert.fail(), 'data');
      other.stdin?.write('hello\n');
      await greeting;
      const path = join(client.directory, 'many');
      const master = await client.startMaster(path, ...DIRECT);
      const marks = [gateway.target.mark(), gateway.target.mark(), gateway.target.mark()];
      const children = marks.map((mark) => client.start(['-S', path, ...DIRECT, mark]));
      for (const mark of marks) await runs(mark);
      const outcomes = children.map(outcomeOf);
      const gone = outcomeOf(master);
      revoke();
      for (const { stderr } of await Promise.all(outcomes)) assert.ok(stderr.includes(line));
      await gone;
      await until(() => !gateway.target.isRunning(marks[0] ?? ''));
      other.stdin?.end();
      assert.equal((await outcomeOf(other)).status, 0);
    });

    it('ends a client that does not read', async () => {
      const child = client.start(['web-1', 'cat /dev/zero']);
      await once(child.stdout ?? assert.fail(), 'data');
      child.stdout?.pause();
      const before = process.memoryUsage().rss;
      child.kill('SIGSTOP');
      await sleep(1500);
      assert.ok(process.memoryUsage().rss - before < 64 * MIB, 'what waits for it is bounded');
      const start = performance.now();
      revoke();
      await gateway.record();
      while (!gateway.target.isIdle) await sleep(5);
      const ms = performance.now() - start;
      child.kill('SIGKILL');
      assert.ok(ms < PROMISED_MS, `${ms} ms`);
    });
  });

  it('ends at the end of the certificate', async () => {
    const short = await gateway.client({
      certificate: (key, ssh) =>
        ssh.issueUser(WEB, key, { validBefore: new Date(Date.now() + 3000) }),
    });
    const outcomes = [['web-1'], DIRECT].map((args) =>
      outcomeOf(short.start([...args, 'sleep 1000'])),
    );
    for (const { stderr } of await Promise.all(outcomes)) {
      assert.match(stderr, /^writ: the session reached its end at /m);
    }
  });

  it('ends when the grant changes', async () => {
    const mark = gateway.target.mark();
    const child = client.start(['web-1', mark]);
    await runs(mark);
    const outcome = ended(child, performance.now());
    const less = gateway.grant('ops', { rights: { shell: true } });
    await gateway.declare([gateway.backend('web-1')], [less]);
    const { stderr } = await outcome;
    await gateway.declare([gateway.backend('web-1')], [gateway.grant('ops')]);
    assert.match(stderr, /writ: the grant ops was changed or deleted/);
  });

  it('ends when the record cannot go on, before the client sees what is not in it', async function () {
    skipWithoutTerminals(this);
    const more = MAXIMUM_SEGMENT_BYTES + 4 * MIB;
    const { child } = await opens(() =>
      client.start(['-tt', 'web-1', `read x; head -c ${more} /dev/zero; sleep 1000`]),
    );
    const directory = join(gateway.stateDir, 'recordings', gateway.lastSession);
    await mkdir(join(directory, '1.seg'));
    const outcome = ended(child, performance.now());
    child.stdin?.write('\n');
    const { status, stdout, stderr } = await outcome;
    assert.notEqual(status, 0);
    assert.match(stderr, /writ: the session cannot be recorded, so it cannot go on/);
    assert.ok(stdout.length <= MAXIMUM_SEGMENT_BYTES, `${stdout.length}`);
    await until(() => gateway.events('recording.failed').length === 1);
  });

  it('ends with its target, and says so', async () => {
    await using other = await SshGateway.start();
    const short = await other.client();
    const child = short.start(['web-1', 'echo started; sleep 1000']);
    await once(child.stdout ?? assert.fail(), 'data');
    const outcome = outcomeOf(child);
    await other.target.stop();
    const { status, stderr } = await outcome;
    assert.equal(status, 255);
    assert.match(stderr, /writ: web-1 closed the connection/);
    const { closed } = recorded(await other.record());
    assert.equal(closed[0]?.reason, 'web-1 closed the connection');
  });

  it('ends with the gateway, and says so', async () => {
    const other = await SshGateway.start();
    const short = await other.client();
    const child = short.start(['web-1', 'echo started; sleep 1000']);
    await once(child.stdout ?? assert.fail(), 'data');
    const outcome = outcomeOf(child);
    const stopping = other.core.stop('the gateway is stopping');
    const { status, stderr } = await outcome;
    await stopping;
    assert.equal(status, 255);
    assert.match(stderr, /writ: the gateway is stopping/);
    await other[Symbol.asyncDispose]();
  });

  it('leaves nothing running after many sessions at once', async () => {
    const outcomes = await Promise.all(
      Array.from({ length: 12 }, (_, n) =>
        client.ssh([...(n % 2 === 0 ? ['web-1'] : DIRECT), `echo ${n}; exit ${n}`]),
      ),
    );
    assert.deepEqual(
      outcomes.map(({ status, stdout }) => [status, stdout]),
      outcomes.map((_, n) => [n, `${n}\n`]),
    );
    await until(() => gateway.target.isIdle);
    await until(() => gateway.server.closed.length === gateway.server.opened.length);
  });
});
