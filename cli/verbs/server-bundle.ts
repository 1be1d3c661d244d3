import { encodePem } from '../../identity/x509/pem.ts';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import type { Verb } from '../verb.ts';

export const serverBundle: Verb = {
  path: ['server', 'bundle'],
  positionals: [],
  summary: "Print the trust domain's roots as PEM, for an agent's trust_bundle_file",
  options: {},
  async run(_flags, io) {
    const { x509Authorities } = await io.admin(Bundle).getBundle({}, { signal: io.signal });
    const roots = x509Authorities.filter(({ tainted }) => !tainted);
    io.out(
      roots
        .map(({ asn1 }) => encodePem('CERTIFICATE', asn1))
        .join('')
        .trimEnd(),
    );
  },
};
