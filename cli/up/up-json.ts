import { writeAtomic } from '../../runtime/atomic-file.ts';
import { BACKEND, SSH_BACKEND, SSH_LOGIN } from './demo-resources.ts';
import { sshConfigFile } from './demo-ssh-config.ts';
import { GATEWAY_HOST, gatewayId, healthUrl, type Plan } from './plan.ts';
import type { StateDir } from './state-dir.ts';

/** `up.json`: what a script needs to drive a running `writ up`. Its keys are a promise (docs/up.md). */
export interface UpJson {
  readonly trust_domain: string;
  readonly server: {
    /** host:port of the TLS port. */
    readonly address: string;
    /** Path of the admin socket. */
    readonly admin_socket: string;
    /** Base URL; `/ready`, `/live` and `/metrics` are below it. */
    readonly health: string;
  };
  readonly agent: {
    /** SPIFFE ID. */
    readonly id: string;
    /** `unix://` URI. */
    readonly workload_api: string;
    /** Path of the ssh-agent socket, for SSH_AUTH_SOCK or IdentityAgent. */
    readonly ssh_agent: string;
    readonly health: string;
  };
  readonly gateway: {
    /** SPIFFE ID. */
    readonly id: string;
    /** host:port. */
    readonly postgres: string;
    /** host:port. */
    readonly ssh: string;
    readonly health: string;
  };
  /** PEM file of the trust domain's X.509 authorities. */
  readonly bundle: string;
  readonly demo: {
    /** Name of the backend. */
    readonly backend: string;
    /** The embedded database as its superuser, for tests alone. */
    readonly database_url: string;
    /** Name of the SSH backend; this and the next two are there if this machine has an sshd. */
    readonly ssh_target?: string;
    /** A login of it that the sample is granted. */
    readonly ssh_login?: string;
    /** Path of an ssh_config for `ssh -F`, its known_hosts beside it. */
    readonly ssh_config?: string;
  };
  readonly pids: {
    readonly up: number;
    readonly server: number;
    readonly agent: number;
    readonly gateway: number;
    readonly postgres: number;
    readonly sshd?: number;
  };
}

/** The parts whose process ids change when they are started again. */
export interface Running {
  readonly database: { readonly url: string; readonly pid: number };
  readonly sshd: { readonly pid: number } | undefined;
  readonly server: { readonly pid: number };
  readonly agent: { readonly pid: number };
  readonly gateway: { readonly pid: number };
  /** The SPIFFE ID that the agent attested with. */
  agentId(): Promise<string>;
}

export async function writeUpJson(plan: Plan, state: StateDir, running: Running): Promise<void> {
  const { ports } = plan;
  const content: UpJson = {
    trust_domain: plan.trustDomain,
    server: {
      address: `127.0.0.1:${ports.server}`,
      admin_socket: state.in('server', 'admin.sock'),
      health: healthUrl(ports.serverHealth),
    },
    agent: {
      id: await running.agentId(),
      workload_api: `unix://${state.in('run', 'agent.sock')}`,
      ssh_agent: state.in('run', 'ssh-agent.sock'),
      health: healthUrl(ports.agentHealth),
    },
    gateway: {
      id: gatewayId(plan),
      postgres: `${GATEWAY_HOST}:${ports.gatewayPostgres}`,
      ssh: `${GATEWAY_HOST}:${ports.gatewaySsh}`,
      health: healthUrl(ports.gatewayHealth),
    },
    bundle: state.in('bundle.pem'),
    demo: {
      backend: BACKEND,
      database_url: running.database.url,
      ...(running.sshd && {
        ssh_target: SSH_BACKEND,
        ssh_login: SSH_LOGIN,
        ssh_config: sshConfigFile(state),
      }),
    },
    pids: {
      up: process.pid,
      server: running.server.pid,
      agent: running.agent.pid,
      gateway: running.gateway.pid,
      postgres: running.database.pid,
      ...(running.sshd && { sshd: running.sshd.pid }),
    },
  };
  const text = `${JSON.stringify(content, undefined, 2)}\n`;
  await writeAtomic(state.in('up.json'), Buffer.from(text), 0o600);
}
