import type { Reader } from '../plugins/datastore/datastore.ts';

/** Whether this server has issued an X509-SVID of that serial and revoked it since. */
export async function isSvidRevoked(reader: Reader, serial: string): Promise<boolean> {
  const row = await reader.get(
    `select 1 as found from ledger
     where serial = ? and kind = 'x509' and revoked_at_ms is not null`,
    serial,
  );
  return row !== undefined;
}
