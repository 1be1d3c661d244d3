/** The sample's second way in: the machine's own ssh, unchanged, through the gateway to a real sshd. */
import { type ChildProcess, spawn } from 'node:child_process';
import { SessionService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { VerbIo } from '../verb.ts';
import { SSH_BACKEND } from './demo-resources.ts';
import { newSession, openSessions, replay } from './sample-session.ts';
import type { Show, Step } from './sample-step.ts';

export interface SshSampleOptions {
  readonly step: Step;
  /** Path of the ssh_config. */
  readonly config: string;
  readonly spiffeId: string;
  readonly io: VerbIo;
}

const COMMAND = 'echo "$(id -un) on $(uname -n)"';

export async function runSshSample(options: SshSampleOptions): Promise<void> {
  const { step, spiffeId, io } = options;
  await step(`ssh ${SSH_BACKEND} '${COMMAND}'`, async (show) => {
    const outcome = await ssh(options, [SSH_BACKEND, COMMAND]);
    showOutput(outcome, show);
    if (outcome.status !== 0) throw new Fault('INTERNAL', `ssh: ${outcome.output.trim()}`);
    show('by a certificate that its ssh-agent socket had signed on demand: no key file exists');
  });
  await step(`ssh root@${SSH_BACKEND}`, async (show) => {
    showOutput(await ssh(options, [`root@${SSH_BACKEND}`, 'id']), show);
  });
  const before = await openSessions(spiffeId, SSH_BACKEND, io);
  const client = start(options, [SSH_BACKEND, 'echo working; sleep 60; echo done']);
  const ended = outcomeOf(client);
  const session = await newSession(before, { spiffeId, backend: SSH_BACKEND, io });
  await step(`writ session kill ${session}, in mid-command`, async (show) => {
    await systemClock.wait(200, io.signal);
    const killed = systemClock.monotonicMs();
    const request = { sessionId: session, reason: 'shown by writ up' };
    await io.admin(SessionService).killSession(request, { signal: io.signal });
    showOutput(await ended, show);
    show(`the client ended ${Math.round(systemClock.monotonicMs() - killed)} ms after the command`);
  });
  await step(`writ session replay ${session}`, async (show) => {
    for (const line of await replay(session, io)) show(line);
  });
}

interface SshOutcome {
  readonly status: number | null;
  readonly output: string;
}

function ssh(options: SshSampleOptions, args: readonly string[]): Promise<SshOutcome> {
  return outcomeOf(start(options, args));
}

function start({ config, io }: SshSampleOptions, args: readonly string[]): ChildProcess {
  const client = spawn('ssh', ['-F', config, '-o', 'BatchMode=yes', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const kill = () => client.kill();
  io.signal.addEventListener('abort', kill, { once: true });
  client.once('close', () => io.signal.removeEventListener('abort', kill));
  return client;
}

function outcomeOf(client: ChildProcess): Promise<SshOutcome> {
  let output = '';
  for (const stream of [client.stdout, client.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  return new Promise((resolve) => {
    client.once('error', (error) => resolve({ status: null, output: error.message }));
    client.once('close', (status) => resolve({ status, output }));
  });
}

function showOutput({ status, output }: SshOutcome, show: Show): void {
  for (const line of output.split(/\r?\n/)) if (line.trim() !== '') show(line.trimEnd());
  if (status !== 0) show(`exit status ${status}`);
}
