import type { Gateway } from '../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Finding } from './postgres-finding.ts';

/**
 * Server names of a backend that a gateway which serves it may not prove: clients that verify the name
 * would refuse it.
 */
export function checkServerNames(
  backend: string,
  serverNames: readonly string[],
  gateways: readonly Pick<Gateway, 'spiffeId' | 'backends' | 'names'>[],
): Finding[] {
  const serving = gateways.filter(({ backends }) =>
    backends.some((one) => one === '*' || one === backend),
  );
  return serving.flatMap(({ spiffeId, names }) =>
    serverNames
      .filter((serverName) => !names.some((name) => covers(name.toLowerCase(), serverName)))
      .map((serverName) => ({
        severity: 'warning' as const,
        check: 'server-name',
        subject: serverName,
        problem: `is not among the names of ${spiffeId}: clients that verify it cannot connect there`,
      })),
  );
}

function covers(name: string, serverName: string): boolean {
  if (name === serverName) return true;
  return name.startsWith('*.') && name.slice(1) === serverName.slice(serverName.indexOf('.'));
}
