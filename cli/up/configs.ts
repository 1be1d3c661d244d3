/** The configuration files that `writ up` writes for its processes. */
import { writeFile } from 'node:fs/promises';
import { stringify } from 'yaml';
import { formatDuration } from '../../runtime/duration.ts';
import { GATEWAY_NAME, type Plan } from './plan.ts';
import type { StateDir } from './state-dir.ts';

/** JWT-SVIDs and SSH certificates live no longer. */
const SHORT_SECONDS = 300;

export async function writeServerConfig(plan: Plan, state: StateDir): Promise<string> {
  const ttl = formatDuration(plan.ttlSeconds);
  const short = formatDuration(Math.min(plan.ttlSeconds, SHORT_SECONDS));
  return await write(state.in('server', 'server.yaml'), {
    trust_domain: plan.trustDomain,
    state_dir: state.in('server'),
    listen: `127.0.0.1:${plan.ports.server}`,
    health: `127.0.0.1:${plan.ports.serverHealth}`,
    ttl: {
      x509_svid: ttl,
      agent_svid: ttl,
      jwt_svid: short,
      ssh_certificate: short,
    },
    registration: {
      defaults: {
        owner: 'writ-up@localhost',
        purpose: 'trying Writ',
        environment: 'demo',
        kind: 'service',
        expires_in: '30d',
      },
    },
    node_attestors: { join_token: {} },
  });
}

export async function writeAgentConfig(plan: Plan, state: StateDir): Promise<string> {
  return await write(state.in('agent', 'agent.yaml'), {
    trust_domain: plan.trustDomain,
    state_dir: state.in('agent'),
    server: `127.0.0.1:${plan.ports.server}`,
    join_string_file: state.in('agent', 'join-string'),
    workload_api: state.in('run', 'agent.sock'),
    ssh_agent: state.in('run', 'ssh-agent.sock'),
    health: `127.0.0.1:${plan.ports.agentHealth}`,
  });
}

export async function writeGatewayConfig(plan: Plan, state: StateDir): Promise<string> {
  return await write(state.in('gateway', 'gateway.yaml'), {
    trust_domain: plan.trustDomain,
    name: GATEWAY_NAME,
    state_dir: state.in('gateway'),
    server: `127.0.0.1:${plan.ports.server}`,
    workload_api: state.in('run', 'agent.sock'),
    listen: {
      postgres: `127.0.0.1:${plan.ports.gatewayPostgres}`,
      ssh: `127.0.0.1:${plan.ports.gatewaySsh}`,
    },
    health: `127.0.0.1:${plan.ports.gatewayHealth}`,
    workers: plan.gatewayWorkers,
  });
}

async function write(file: string, content: object): Promise<string> {
  await writeFile(file, stringify(content), { mode: 0o600 });
  return file;
}
