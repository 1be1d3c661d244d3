import type { PostgresBackend } from '../../proto/gen/writ/resource/v1/resource_pb.ts';

const SUFFIX = '_b';
/** NAMEDATALEN - 1. */
const MOST_BYTES = 63;

/**
 * The second login of a backend whose password is rotated: PostgreSQL keeps one password for a login, so
 * that the old one and the new one need one each. Undefined if the name would be too long.
 */
export function twinLogin({ loginUser }: Pick<PostgresBackend, 'loginUser'>): string | undefined {
  const twin = `${loginUser}${SUFFIX}`;
  return Buffer.byteLength(twin) <= MOST_BYTES ? twin : undefined;
}
