import { create } from '@bufbuild/protobuf';
import * as v from 'valibot';
import { type Registrar, RegistrarSchema } from '../proto/gen/writ/admin/v1/admin_pb.ts';
import { durationSeconds, loadConfig } from '../runtime/config.ts';

const DAY_SECONDS = 24 * 60 * 60;

const texts = v.pipe(v.array(v.string()), v.maxLength(256, 'at most 256'));
const someTexts = v.pipe(texts, v.minLength(1, 'at least one'));

/** What `writ registrar put` reads; what the texts may say is the server's to judge. */
const registrarSchema = v.strictObject({
  spiffe_id: v.string(),
  spiffe_ids: someTexts,
  parents: someTexts,
  selectors: someTexts,
  dns_names: v.optional(texts, []),
  federates_with: v.optional(texts, []),
  hint: v.optional(v.boolean(), false),
  max_x509_svid_ttl: v.optional(durationSeconds(7 * DAY_SECONDS)),
  max_jwt_svid_ttl: v.optional(durationSeconds(DAY_SECONDS)),
  defaults: v.optional(
    v.strictObject({
      owner: v.string(),
      purpose: v.string(),
      environment: v.string(),
      kind: v.string(),
      expires_in: durationSeconds(3650 * DAY_SECONDS),
    }),
  ),
});

/** @throws Fault CONFIG_INVALID naming file, line and field */
export async function readRegistrar(file: string): Promise<Registrar> {
  const read = await loadConfig(file, registrarSchema);
  const { defaults } = read;
  return create(RegistrarSchema, {
    spiffeId: read.spiffe_id,
    spiffeIds: read.spiffe_ids,
    parents: read.parents,
    selectors: read.selectors,
    dnsNames: read.dns_names,
    federatesWith: read.federates_with,
    hint: read.hint,
    maxX509SvidTtlSeconds: read.max_x509_svid_ttl ?? 0,
    maxJwtSvidTtlSeconds: read.max_jwt_svid_ttl ?? 0,
    ...(defaults && {
      defaults: {
        owner: defaults.owner,
        purpose: defaults.purpose,
        environment: defaults.environment,
        kind: defaults.kind,
        expiresInSeconds: defaults.expires_in,
      },
    }),
  });
}
