import * as v from 'valibot';
import { absolutePath } from '../../../runtime/config.ts';
import { httpsUrl } from './oidc-config.ts';

const some = <S extends v.GenericSchema>(schema: S) =>
  v.pipe(v.array(schema), v.minLength(1, 'at least one'), v.maxLength(256, 'at most 256'));
const text = v.pipe(v.string(), v.minLength(1), v.maxLength(256));
const uuid = v.pipe(v.string(), v.regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, 'a UUID'));

export const awsIidSchema = v.strictObject({
  /** Whose instances are agents, in quotes. */
  account_ids: some(v.pipe(v.string(), v.regex(/^\d{12}$/, '12 digits, in quotes'))),
  /** PEM: Amazon's RSA-2048 certificates of the regions in use. */
  certificate_files: some(absolutePath),
});

export const gcpIitSchema = v.strictObject({
  /** Whose instances are agents. */
  project_ids: some(text),
  audience: v.optional(text, 'spire-gcp-node-attestor'),
  jwks_url: v.optional(httpsUrl, 'https://www.googleapis.com/oauth2/v3/certs'),
  ca_file: v.optional(absolutePath),
});

export const azureMsiSchema = v.strictObject({
  tenants: some(
    v.strictObject({
      id: uuid,
      audience: text,
      /** Whose machines are agents. */
      subscription_ids: some(uuid),
      /** Where its keys are; those of Microsoft's public cloud if left out. */
      jwks_url: v.optional(httpsUrl),
      ca_file: v.optional(absolutePath),
    }),
  ),
});
