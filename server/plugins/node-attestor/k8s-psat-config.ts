import * as v from 'valibot';
import { absolutePath } from '../../../runtime/config.ts';
import { httpsUrl } from './oidc-config.ts';

const few = <S extends v.GenericSchema>(schema: S, maximum: number) =>
  v.pipe(v.array(schema), v.maxLength(maximum, `at most ${maximum}`));

const labelKeys = v.optional(few(v.pipe(v.string(), v.minLength(1), v.maxLength(317)), 64), []);

const cluster = v.strictObject({
  /** Of the Kubernetes API server. */
  api_server: httpsUrl,
  /** PEM of the authorities that prove it. */
  ca_file: absolutePath,
  /** Holds our own credential: it may create TokenReviews and get pods and nodes. Read at each use. */
  token_file: absolutePath,
  /** Whose pods are agents, each `namespace:service-account`. */
  service_account_allow_list: v.pipe(
    few(v.pipe(v.string(), v.regex(/^[a-z0-9-]{1,63}:[a-z0-9.-]{1,253}$/, 'namespace:name')), 256),
    v.minLength(1, 'at least one service account'),
  ),
  audience: v.optional(
    v.pipe(few(v.pipe(v.string(), v.minLength(1), v.maxLength(256)), 16), v.minLength(1)),
    ['spire-server'],
  ),
  allowed_node_label_keys: labelKeys,
  allowed_pod_label_keys: labelKeys,
});

export const k8sPsatSchema = v.strictObject({
  /** By the name that agents give, which is a segment of their IDs. */
  clusters: v.pipe(
    v.record(v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}$/, 'a name')), cluster),
    v.check((clusters) => Object.keys(clusters).length > 0, 'at least one cluster'),
  ),
});

export type ClusterConfig = v.InferOutput<typeof cluster>;
