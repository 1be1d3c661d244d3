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
  const reserved = await ReservedNames.read(reader, dnsNames.length > 0);
  reserved.refuse(dnsNames);
}

/** The same for many lists. */
export class ReservedNames {
  readonly #names: readonly string[];

  private constructor(names: readonly string[]) {
    this.#names = names;
  }

  /** @param isNeeded whether any list has a name */
  static async read(reader: Reader, isNeeded: boolean): Promise<ReservedNames> {
    const gateways = isNeeded ? await listGateways(reader) : [];
    return new ReservedNames(gateways.flatMap(({ names }) => names.map(normal)));
  }

  /** @throws Fault PERMISSION_DENIED */
  refuse(dnsNames: readonly string[]): void {
    const clash = dnsNames.find((name) => this.#names.some((one) => covers(normal(name), one)));
    if (clash !== undefined) {
      const says = `dns_names: ${JSON.stringify(clash)} is a gateway's name`;
      throw new Fault('PERMISSION_DENIED', says);
    }
  }
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
