/** The three calls of a Kubernetes API server by which a pod's token proves its node. */
import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { Fault } from '../../../runtime/fault.ts';
import { httpsJson } from '../../../runtime/https-json.ts';

export interface KubeApiOptions {
  readonly server: string;
  readonly caFile: string;
  readonly tokenFile: string;
}

const texts = v.array(v.string());
const labels = v.optional(v.record(v.string(), v.string()), {});

const tokenReview = v.object({
  status: v.object({
    authenticated: v.optional(v.boolean(), false),
    audiences: v.optional(texts, []),
    error: v.optional(v.string()),
    user: v.optional(
      v.object({
        username: v.optional(v.string(), ''),
        extra: v.optional(v.record(v.string(), texts), {}),
      }),
    ),
  }),
});

const pod = v.object({
  metadata: v.object({ uid: v.string(), labels }),
  spec: v.object({ nodeName: v.pipe(v.string(), v.minLength(1)) }),
  status: v.optional(v.object({ hostIP: v.optional(v.string(), '') }), {}),
});

const node = v.object({ metadata: v.object({ uid: v.string(), labels }) });

export type TokenReview = v.InferOutput<typeof tokenReview>['status'];
export type Pod = v.InferOutput<typeof pod>;
export type KubeNode = v.InferOutput<typeof node>;

/** @throws Fault UNAVAILABLE from each call if the API server gives no such answer */
export class KubeApi {
  readonly #options: KubeApiOptions;

  constructor(options: KubeApiOptions) {
    this.#options = options;
  }

  /** Source: Kubernetes API, authentication.k8s.io/v1 TokenReview. */
  async reviewToken(token: string, audiences: readonly string[]): Promise<TokenReview> {
    const body = {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      spec: { token, audiences },
    };
    const path = ['apis', 'authentication.k8s.io', 'v1', 'tokenreviews'];
    const { status, json } = await this.#ask(path, body);
    if (status !== 201 && status !== 200) throw this.#unusable('a TokenReview', status);
    return this.#parse(tokenReview, json, 'a TokenReview').status;
  }

  /** Undefined if there is none. */
  pod(namespace: string, name: string): Promise<Pod | undefined> {
    return this.#get(['api', 'v1', 'namespaces', namespace, 'pods', name], pod);
  }

  /** Undefined if there is none. */
  node(name: string): Promise<KubeNode | undefined> {
    return this.#get(['api', 'v1', 'nodes', name], node);
  }

  async #get<S extends v.GenericSchema>(
    path: readonly string[],
    schema: S,
  ): Promise<v.InferOutput<S> | undefined> {
    const { status, json } = await this.#ask(path);
    if (status === 404) return undefined;
    const what = path.at(-2) ?? '';
    if (status !== 200) throw this.#unusable(what, status);
    return this.#parse(schema, json, what);
  }

  async #ask(path: readonly string[], body?: object) {
    const { server, caFile, tokenFile } = this.#options;
    const base = server.endsWith('/') ? server.slice(0, -1) : server;
    const url = new URL(`${base}/${path.map(encodeURIComponent).join('/')}`);
    const bearer = await readToken(tokenFile);
    return await httpsJson({ url, caFile, bearer, ...(body === undefined ? {} : { body }) });
  }

  #parse<S extends v.GenericSchema>(schema: S, json: unknown, what: string): v.InferOutput<S> {
    const result = v.safeParse(schema, json);
    if (result.success) return result.output;
    throw this.#unusable(what);
  }

  #unusable(what: string, status?: number): Fault {
    const answer = status === undefined ? 'something else' : `status ${status}`;
    const cause = `${this.#options.server} answers ${answer} when asked for ${what}`;
    return new Fault('UNAVAILABLE', 'the Kubernetes API server cannot be asked now', { cause });
  }
}

async function readToken(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '');
  if (/^[\x21-\x7e]{1,16384}$/.test(text.trim())) return text.trim();
  throw new Fault('UNAVAILABLE', 'the Kubernetes API server cannot be asked now', {
    cause: `${file} holds no token`,
  });
}
