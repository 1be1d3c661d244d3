import { resolve } from 'node:path';
import { Fault } from '../../runtime/fault.ts';
import { SshAccessClient } from '../../sdk/ssh-access-client.ts';
import { agentEndpoint } from '../agent-endpoint.ts';
import { patiently } from '../patiently.ts';
import { writeSshConfig } from '../ssh-config.ts';
import { textFlag, type Verb } from '../verb.ts';

const WAIT_MS = 10_000;

export const sshConfig: Verb = {
  path: ['ssh', 'config'],
  positionals: [],
  summary: 'Write ssh_config and known_hosts for the targets that this process may log in to',
  options: { socket: { type: 'string' }, out: { type: 'string', default: '.' } },
  async run(flags, io) {
    await using client = new SshAccessClient(agentEndpoint(flags));
    const signal = AbortSignal.any([io.signal, AbortSignal.timeout(WAIT_MS)]);
    const { targets, hostAuthorities, agentSocket } = await patiently(
      () => client.access(signal),
      signal,
    );
    if (agentSocket === '') {
      const message = 'the agent serves no ssh-agent socket: set ssh_agent in its configuration';
      throw new Fault('FAILED_PRECONDITION', message);
    }
    const folder = resolve(textFlag(flags, 'out') ?? '.');
    const file = await writeSshConfig(folder, { targets, hostAuthorities, agentSocket });
    io.out(file);
    const names = targets.map(({ backend }) => backend);
    const reach = names.length === 0 ? 'no target is granted' : `reaches ${names.join(', ')}`;
    io.err(`${reach}; use it with ssh -F ${file}, or Include ${file} in your ssh_config`);
  },
};
