import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import {
  IdentityService,
  LockService,
  ResourceService,
  SessionService,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { descendants } from '../fixtures/process-facts.ts';
import { hasProgram, skipWithout, skipWithoutTerminals } from '../fixtures/programs.ts';
import {
  endOf,
  makeSshWorkload,
  SSH_ACTIVITIES,
  type SshWorkload,
  until,
} from '../fixtures/ssh-workload.ts';
import { type RunningUp, runProgram, startUp } from '../fixtures/writ-up.ts';

/** The promise of docs/ssh.md: from the command to the client's end. */
const PROMISED_MS = 1000;
const never = new AbortController().signal;

interface Ended {
  readonly workload: SshWorkload;
  readonly sessionId: string;
}

describe('an ssh session ends within a second', () => {
  let up: RunningUp;
  let folder: string;
  let count = 0;

  before(async function () {
    this.timeout(90_000);
    if (!hasProgram('/usr/sbin/sshd')) skipWithout(this, 'sshd');
    up = await startUp();
    folder = await mkdtemp(join(tmpdir(), 'writ-ssh-ends-'));
    await chmod(folder, 0o777);
    await runProgram('truncate', ['-s', '50G', join(folder, 'sparse')]);
  });
  after(async function () {
    this.timeout(30_000);
    if (up === undefined) return;
    await up[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  const target = () => up.json.demo.ssh_target ?? '';
  const targetProcesses = () => descendants(up.json.pids.sshd ?? 0);

  const ends: Readonly<Record<string, (what: Ended) => Promise<unknown>>> = {
    'writ session kill': ({ sessionId }) =>
      up.admin(SessionService).killSession({ sessionId, reason: 'test' }, { signal: never }),
    'writ lock create': ({ workload }) => {
      const lock = { target: { case: 'spiffeId', value: workload.spiffeId } } as const;
      return up.admin(LockService).createLock({ target: lock, reason: 'test' }, { signal: never });
    },
    'the deletion of its entry': ({ workload }) =>
      up.admin(Entry).batchDeleteEntry({ ids: [workload.entryId] }, { signal: never }),
    'the deletion of its grant': ({ workload }) =>
      up
        .admin(ResourceService)
        .deleteResource({ kind: 'Grant', name: workload.grant }, { signal: never }),
    'the suspension of its identity': ({ workload }) => {
      const { spiffeId } = workload;
      const request = { spiffeId, status: 'suspended', reason: 'test' };
      return up.admin(IdentityService).setIdentityStatus(request, { signal: never });
    },
  };

  for (const [activity, start] of Object.entries(SSH_ACTIVITIES)) {
    for (const [name, end] of Object.entries(ends)) {
      it(`${activity}, by ${name}, and nothing of it is left on the target`, async function () {
        if (activity === 'a shell') skipWithoutTerminals(this);
        count += 1;
        await using workload = await makeSshWorkload(up, `ends-${count}`);
        const client = start(workload, { target: target(), folder });
        const ended = endOf(client);
        const { id } = await workload.session();
        await until(
          'the target works for it',
          async () => targetProcesses().length > 1 || undefined,
        );
        await systemClock.wait(200, never);
        const began = systemClock.monotonicMs();
        await end({ workload, sessionId: id });
        const { status, errors } = await ended;
        const took = systemClock.monotonicMs() - began;
        assert.ok(took <= PROMISED_MS, `took ${Math.round(took)} ms`);
        assert.notEqual(status, 0);
        assert.match(errors, /writ: |closed|disconnect/i);
        await until('the target is empty', async () => targetProcesses().length === 0 || undefined);
      }).timeout(40_000);
    }
  }

  it('tells the client why', async () => {
    await using workload = await makeSshWorkload(up, 'told');
    const client = workload.start(target(), 'echo ready; sleep 60');
    const ended = endOf(client);
    const { id } = await workload.session();
    await systemClock.wait(300, never);
    await up.writ('session', 'kill', id, '--reason', 'a reason for people');
    assert.match((await ended).errors, /writ: a reason for people/);
  }).timeout(20_000);

  it('at the end of its grant', async () => {
    const lifeMs = 6000;
    const began = systemClock.monotonicMs();
    const expiresAt = new Date(Date.now() + lifeMs);
    await using workload = await makeSshWorkload(up, 'ending', { expiresAt });
    const ended = endOf(workload.start(target(), 'sleep 60'));
    await workload.session();
    const { status } = await ended;
    const late = systemClock.monotonicMs() - began - lifeMs;
    assert.notEqual(status, 0);
    assert.ok(late <= PROMISED_MS, `${Math.round(late)} ms late`);
    await until('the target is empty', async () => targetProcesses().length === 0 || undefined);
  }).timeout(30_000);

  it('at the ban of its agent', async () => {
    await using workload = await makeSshWorkload(up, 'banned');
    const ended = endOf(workload.start(target(), 'sleep 60'));
    await workload.session();
    const began = systemClock.monotonicMs();
    const { trust_domain: trustDomain, agent } = up.json;
    const id = { trustDomain, path: agent.id.slice(`spiffe://${trustDomain}`.length) };
    await up.admin(Agent).banAgent({ id }, { signal: never });
    await ended;
    const took = systemClock.monotonicMs() - began;
    assert.ok(took <= PROMISED_MS, `took ${Math.round(took)} ms`);
    await until('the target is empty', async () => targetProcesses().length === 0 || undefined);
  }).timeout(30_000);
});

describe('an ssh session ends with its certificate', () => {
  it('to the second', async function () {
    if (!hasProgram('/usr/sbin/sshd')) skipWithout(this, 'sshd');
    await using up = await startUp({ args: ['--no-sample', '--ttl', '8s'] });
    await using workload = await makeSshWorkload(up, 'short');
    const began = systemClock.monotonicMs();
    const ended = endOf(workload.start(up.json.demo.ssh_target ?? '', 'sleep 60'));
    const session = await workload.session();
    const { status } = await ended;
    const tookMs = systemClock.monotonicMs() - began;
    assert.notEqual(status, 0);
    assert.ok(tookMs <= 8000 + PROMISED_MS, `lived ${Math.round(tookMs)} ms`);
    const { stdout } = await up.writ('session', 'show', session.id);
    assert.match(stdout, /reached its end/);
  }).timeout(90_000);
});
