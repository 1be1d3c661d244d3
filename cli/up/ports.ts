import { createServer } from 'node:net';
import { Fault } from '../../runtime/fault.ts';

/** Ports of `writ up`, all on 127.0.0.1. */
export interface Ports {
  readonly server: number;
  readonly gatewayPostgres: number;
  readonly serverHealth: number;
  readonly agentHealth: number;
  readonly gatewayHealth: number;
  readonly postgres: number;
  readonly gatewaySsh: number;
  readonly sshd: number;
}

const DEFAULTS: Ports = {
  server: 8081,
  gatewayPostgres: 6432,
  serverHealth: 8082,
  agentHealth: 8083,
  gatewayHealth: 8084,
  postgres: 8085,
  gatewaySsh: 2222,
  sshd: 8086,
};

/**
 * The default ports, or eight in a row from `base`: server, gateway for PostgreSQL, health of server,
 * agent and gateway, the embedded Postgres, gateway for SSH, the demo's sshd.
 * @throws Fault USAGE
 */
export function choosePorts(base: string | undefined): Ports {
  if (base === undefined) return DEFAULTS;
  const first = Number(base);
  if (!/^\d{1,5}$/.test(base) || first < 1024 || first > 65_528) {
    throw new Fault(
      'USAGE',
      `--port-base ${JSON.stringify(base)}: write a port from 1024 to 65528`,
    );
  }
  return {
    server: first,
    gatewayPostgres: first + 1,
    serverHealth: first + 2,
    agentHealth: first + 3,
    gatewayHealth: first + 4,
    postgres: first + 5,
    gatewaySsh: first + 6,
    sshd: first + 7,
  };
}

/** @throws Fault STATE_UNUSABLE naming the first port that is taken */
export async function checkPorts(ports: Ports): Promise<void> {
  for (const [name, port] of Object.entries(ports)) {
    await new Promise<void>((resolve, reject) => {
      const probe = createServer();
      probe.once('error', (cause) => {
        const hint = 'stop what listens there, or move all ports with --port-base N';
        reject(new Fault('STATE_UNUSABLE', `port ${port} (${name}) is taken: ${hint}`, { cause }));
      });
      probe.listen({ host: '127.0.0.1', port, exclusive: true }, () =>
        probe.close(() => resolve()),
      );
    });
  }
}
