import * as v from 'valibot';
import { absolutePath, hostPort } from '../../../runtime/config.ts';

/** The section `upstream_authority`: what signs the X.509 authorities of this server. */
export const upstreamAuthoritySchema = v.union(
  [
    v.strictObject({
      disk: v.strictObject({
        /** PEM: the certificate that signs, then what leads to its root. */
        cert_file: absolutePath,
        /** PEM, for the server's user alone. */
        key_file: absolutePath,
        /** PEM: the roots, if `cert_file` does not end with the root. */
        bundle_file: v.optional(absolutePath),
      }),
    }),
    v.strictObject({
      /** A SPIRE or Writ server of the same trust domain that has a `downstream` entry for this one. */
      spire: v.strictObject({
        server: hostPort,
        /** Of an agent of that server, from which this one has its SVID. */
        workload_api_socket: absolutePath,
      }),
    }),
  ],
  'disk: { cert_file, key_file, bundle_file } or spire: { server, workload_api_socket }',
);

export type UpstreamAuthorityConfig = v.InferOutput<typeof upstreamAuthoritySchema>;
