import { join } from 'node:path';
import { defaultStateDir } from './admin-connection.ts';
import { type Flags, textFlag } from './verb.ts';

/** The Workload API as `--socket` or SPIFFE_ENDPOINT_SOCKET names it, or that of `writ up`. */
export function agentEndpoint(flags: Flags): string {
  const given = textFlag(flags, 'socket') ?? process.env.SPIFFE_ENDPOINT_SOCKET;
  return given ?? `unix://${join(defaultStateDir(), 'run/agent.sock')}`;
}
