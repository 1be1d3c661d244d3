import { SshService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { writeSshConfig } from '../ssh-config.ts';
import type { VerbIo } from '../verb.ts';
import { SSH_BACKEND, SSH_LOGIN } from './demo-resources.ts';
import { GATEWAY_HOST, GATEWAY_NAME, type Plan } from './plan.ts';
import type { StateDir } from './state-dir.ts';

/** What `writ ssh config` would write for the sample, for whoever has no entry yet. */
export async function writeDemoSshConfig(plan: Plan, state: StateDir, io: VerbIo): Promise<void> {
  const { host } = await io.admin(SshService).listSshAuthorities({}, { signal: io.signal });
  const gateway = { name: GATEWAY_NAME, hosts: [GATEWAY_HOST], port: plan.ports.gatewaySsh };
  await writeSshConfig(state.in('ssh'), {
    targets: [{ backend: SSH_BACKEND, logins: [SSH_LOGIN], gateways: [gateway] }],
    hostAuthorities: host,
    agentSocket: state.in('run', 'ssh-agent.sock'),
  });
}

export function sshConfigFile(state: StateDir): string {
  return state.in('ssh', 'ssh_config');
}
