/**
 * Gateways are records that an operator makes (threats S1): which backends each may serve, and the
 * names its SVID may carry. Nothing a registrar writes can give either away.
 */
import { isIP } from 'node:net';
import type { SpiffeId } from '../../identity/spiffe-id.ts';
import type { Reader, Row } from '../plugins/datastore/datastore.ts';
import { blob, instant, integer, text } from '../plugins/datastore/row.ts';

/** One gateway's row. */
export interface GatewayRecord {
  readonly id: string;
  readonly name: string;
  /** `*` is all. */
  readonly backends: readonly string[];
  /** DNS names and IP addresses. */
  readonly names: readonly string[];
  /** Raw Ed25519 public key, once it has connected. */
  readonly recordingKey: Uint8Array | undefined;
  readonly revocationSeq: bigint;
  readonly heartbeatAt: Date | undefined;
  /** TCP ports by protocol, as it told of them last. */
  readonly ports: Readonly<Record<string, number>>;
}

/** One gateway, undefined if `id` is none. */
export async function findGateway(reader: Reader, id: string): Promise<GatewayRecord | undefined> {
  const row = await reader.get('select * from gateways where id = ?', id);
  return row === undefined ? undefined : gatewayFromRow(row);
}

/** All gateways, by name. */
export async function listGateways(reader: Reader): Promise<GatewayRecord[]> {
  const rows = await reader.all('select * from gateways order by name');
  return rows.map(gatewayFromRow);
}

/** Whether the record lets the gateway serve a backend. */
export function mayServe(gateway: GatewayRecord, backend: string): boolean {
  return gateway.backends.includes('*') || gateway.backends.includes(backend);
}

/** What the SVID of a gateway names; undefined if `spiffeId` is no gateway. */
export async function gatewayNames(
  reader: Reader,
  spiffeId: SpiffeId,
): Promise<{ dnsNames: string[]; ipAddresses: string[] } | undefined> {
  const gateway = await findGateway(reader, spiffeId.toString());
  return (
    gateway && {
      dnsNames: gateway.names.filter((name) => isIP(name) === 0),
      ipAddresses: gateway.names.filter((name) => isIP(name) !== 0),
    }
  );
}

function gatewayFromRow(row: Row): GatewayRecord {
  return {
    id: text(row, 'id'),
    name: text(row, 'name'),
    backends: JSON.parse(text(row, 'backends')),
    names: JSON.parse(text(row, 'names')),
    recordingKey: row.recording_key === null ? undefined : blob(row, 'recording_key'),
    revocationSeq: BigInt(integer(row, 'revocation_seq')),
    heartbeatAt: row.heartbeat_ms === null ? undefined : instant(row, 'heartbeat_ms'),
    ports: JSON.parse(text(row, 'ports')),
  };
}
