import { BACKEND, SSH_BACKEND, sampleIdentity } from './demo-resources.ts';
import { sshConfigFile } from './demo-ssh-config.ts';
import { nodeAlias, type Plan } from './plan.ts';
import type { StateDir } from './state-dir.ts';

export interface InstructionOptions {
  readonly plan: Plan;
  readonly state: StateDir;
  readonly hasSsh: boolean;
  readonly io: { out(line: string): void };
}

/** What a person can paste into another terminal. */
export function printInstructions({ plan, state, hasSsh, io }: InstructionOptions): void {
  const writ = writCommand();
  const uid = process.getuid?.() ?? 0;
  const port = plan.ports.gatewayPostgres;
  const ssl = 'sslmode=verify-full sslrootcert=bundle.pem sslcert=svid.pem sslkey=key.pem';
  const entry = `${writ} entry create --spiffe-id ${sampleIdentity(plan)} --parent-id ${nodeAlias(plan)} --selector unix:uid:${uid}`;
  io.out(`
In another terminal, the same with psql:
  export WRIT_ADMIN_SOCKET=${state.in('server', 'admin.sock')}
  export SPIFFE_ENDPOINT_SOCKET=unix://${state.in('run', 'agent.sock')}${plan.sample ? '' : `\n  ${entry}`}
  cd "$(mktemp -d)" && ${writ} fetch x509
  psql "host=localhost port=${port} dbname=${BACKEND} ${ssl}" -c 'select * from customers limit 5'
  ${writ} session list && ${writ} audit tail
${hasSsh ? sshLines(writ, state) : ''}
A client of your own gets its identity from the Workload API, so give it one:
  ${writ} entry create --spiffe-id spiffe://${plan.trustDomain}/my-service --parent-id ${nodeAlias(plan)} \\
    --selector unix:uid:$(id -u) --owner you@example.org --purpose 'trying Writ' --environment demo --expires-in 30d
  go-spiffe, py-spiffe or any other SPIFFE library then works with SPIFFE_ENDPOINT_SOCKET as above.

Your own database: declare it (docs/postgres.md has the file), then let its administrator run the setup:
  ${writ} apply -f mine.yaml
  ${writ} backend setup mine --url postgresql://admin@db.internal/app > setup.sql   # read it, then run it with psql

State is in ${state.path}; ${state.in('up.json')} has all addresses. Ctrl-C stops everything.`);
}

function sshLines(writ: string, state: StateDir): string {
  return `
and with ssh, scp and sftp (${writ} ssh config writes such files for any identity):
  ssh -F ${sshConfigFile(state)} ${SSH_BACKEND} uptime
  SSH_AUTH_SOCK=${state.in('run', 'ssh-agent.sock')} ssh-add -L
`;
}

/** How this program was started, ready to paste. */
function writCommand(): string {
  return ['node', ...process.execArgv, process.argv[1] ?? 'writ'].join(' ');
}
