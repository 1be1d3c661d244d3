import { Fault } from '../../runtime/fault.ts';
import { listGateways } from '../access/gateways.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';

/**
 * A client that checks a gateway's name trusts whoever holds it, so the names of a gateway are in no
 * SVID but its own (design.md, Gateway's names).
 * @param dnsNames untrusted
 * @throws Fault PERMISSION_DENIED
 */
export async function refuseGatewayNames(
  reader: Reader,
  dnsNames: readonly string[],
): Promise<void> {
  if (dnsNames.length === 0) return;
  const gateways = await listGateways(reader);
  const reserved = gateways.flatMap(({ names }) => names.map(normal));
  const clash = dnsNames.find((name) => reserved.some((one) => covers(normal(name), one)));
  if (clash !== undefined)
    throw new Fault('PERMISSION_DENIED', `dns_names: ${JSON.stringify(clash)} is a gateway's name`);
}

/** Some clients take a name or address for the other kind, so both are compared as text. */
function normal(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}

function covers(name: string, reserved: string): boolean {
  if (name === reserved) return true;
  if (!name.startsWith('*.')) return false;
  const dot = reserved.indexOf('.');
  return dot > 0 && name.slice(1) === reserved.slice(dot);
}
