/**
 * A key-value engine of version 2.
 *
 * Source: Vault HTTP API, "KV secrets engine, version 2".
 */
import type { Clock } from '../../runtime/clock.ts';
import { invalid, nothingThere, VaultRefusal } from './vault-errors.ts';

interface Version {
  data: Readonly<Record<string, unknown>> | undefined;
  readonly createdAt: string;
  deletedAt: string;
  destroyed: boolean;
}

interface Secret {
  readonly createdAt: string;
  /** By number, from 1. */
  readonly versions: Version[];
}

export interface KvRequest {
  readonly method: string;
  /** Below the mount, e.g. `data/db/shop`. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: Readonly<Record<string, unknown>>;
}

export class FakeKv {
  readonly #clock: Clock;
  readonly #secrets = new Map<string, Secret>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  put(path: string, data: Readonly<Record<string, unknown>>): object {
    const now = this.#clock.now().toISOString();
    const secret = this.#secrets.get(path) ?? { createdAt: now, versions: [] };
    secret.versions.push({ data, createdAt: now, deletedAt: '', destroyed: false });
    this.#secrets.set(path, secret);
    return describe(secret, secret.versions.length);
  }

  /** @returns what stands in `data` of the answer, or undefined for none */
  answer({ method, path, query, body }: KvRequest): object | undefined {
    const [verb = '', ...rest] = path.split('/');
    const name = rest.join('/');
    switch (`${method === 'PUT' ? 'POST' : method} ${verb}`) {
      case 'GET data':
        return this.#read(name, Number(query.get('version') ?? 0));
      case 'POST data':
        return this.#write(name, body);
      case 'DELETE data':
        return this.#each(name, [this.#secret(name).versions.length], (version) => {
          version.deletedAt = this.#clock.now().toISOString();
        });
      case 'POST delete':
        return this.#each(name, body.versions, (version) => {
          version.deletedAt = this.#clock.now().toISOString();
        });
      case 'POST undelete':
        return this.#each(name, body.versions, (version) => {
          version.deletedAt = '';
        });
      case 'POST destroy':
        return this.#each(name, body.versions, (version) => {
          version.destroyed = true;
          version.data = undefined;
        });
      case 'GET metadata':
        return this.#metadata(name);
      case 'LIST metadata':
        return this.#list(name);
      case 'DELETE metadata':
        this.#secrets.delete(name);
        return undefined;
      default:
        throw new VaultRefusal(405, ['1 error occurred:\n\t* unsupported operation\n\n']);
    }
  }

  #secret(name: string): Secret {
    const secret = this.#secrets.get(name);
    if (secret === undefined) throw nothingThere();
    return secret;
  }

  #read(name: string, wanted: number): object {
    const secret = this.#secret(name);
    const number = wanted === 0 ? secret.versions.length : wanted;
    const version = secret.versions[number - 1];
    if (version === undefined) throw nothingThere();
    const data = { data: version.data ?? null, metadata: describe(secret, number) };
    if (!version.destroyed && version.deletedAt === '') return data;
    // Gone, and what is known of it is told all the same.
    throw new VaultRefusal(404, [], { data: { ...data, data: null } });
  }

  #write(name: string, { data, options }: KvRequest['body']): object {
    if (typeof data !== 'object' || data === null) throw invalid('no data provided');
    const cas = typeof options === 'object' && options !== null && 'cas' in options && options.cas;
    if (typeof cas === 'number' && cas !== (this.#secrets.get(name)?.versions.length ?? 0)) {
      throw invalid('check-and-set parameter did not match the current version');
    }
    return this.put(name, { ...data });
  }

  #each(name: string, numbers: unknown, change: (version: Version) => void): undefined {
    if (!Array.isArray(numbers)) throw invalid('no version number provided');
    const { versions } = this.#secret(name);
    for (const number of numbers) {
      const version = versions[Number(number) - 1];
      if (version !== undefined) change(version);
    }
  }

  #metadata(name: string): object {
    const { createdAt, versions } = this.#secret(name);
    return {
      cas_required: false,
      created_time: createdAt,
      current_version: versions.length,
      custom_metadata: null,
      delete_version_after: '0s',
      max_versions: 0,
      oldest_version: versions.length === 0 ? 0 : 1,
      updated_time: versions.at(-1)?.createdAt ?? createdAt,
      versions: Object.fromEntries(
        versions.map((one, index) => [
          String(index + 1),
          {
            created_time: one.createdAt,
            deletion_time: one.deletedAt,
            destroyed: one.destroyed,
          },
        ]),
      ),
    };
  }

  #list(folder: string): object {
    const prefix = folder === '' || folder.endsWith('/') ? folder : `${folder}/`;
    const below = [...this.#secrets.keys()].filter((name) => name.startsWith(prefix));
    const keys = below.map((name) => name.slice(prefix.length).replace(/\/.*$/s, '/'));
    if (keys.length === 0) throw nothingThere();
    return { keys: [...new Set(keys)].sort() };
  }
}

function describe({ versions }: Secret, number: number): object {
  const version = versions[number - 1];
  return {
    created_time: version?.createdAt ?? '',
    custom_metadata: null,
    deletion_time: version?.deletedAt ?? '',
    destroyed: version?.destroyed ?? false,
    version: number,
  };
}
