import type { VaultKv } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { LoginReader, ReadLogin } from '../refreshed-login.ts';
import { readKv } from './vault-answers.ts';
import type { VaultToken } from './vault-token.ts';

/** A changed password is found at once when the backend refuses the old one; this is for those it takes. */
const REFRESH_MS = 5 * 60_000;

/**
 * The password in one field of a secret, in its newest version.
 *
 * Source: Vault HTTP API, "KV secrets engine, version 2".
 */
export class VaultKvLogin implements LoginReader {
  readonly #kv: VaultKv;
  readonly #user: string;
  readonly #token: VaultToken;

  constructor(kv: VaultKv, user: string, token: VaultToken) {
    this.#kv = kv;
    this.#user = user;
    this.#token = token;
  }

  async read(signal: AbortSignal): Promise<ReadLogin> {
    const { mount, path: secret, field } = this.#kv;
    const path = `${mount}/data/${secret}`;
    const { data } = readKv(await this.#token.ask({ method: 'GET', path, signal }));
    const password = Object.hasOwn(data.data, field) ? data.data[field] : undefined;
    if (typeof password !== 'string' || password === '' || password.includes('\0')) {
      throw new Error(`${path}: field ${field} holds no text`);
    }
    const refreshMs = Math.min(REFRESH_MS, this.#token.dueInMs);
    return { login: { user: this.#user, password }, refreshMs };
  }

  async end(): Promise<void> {
    await this.#token.end();
  }
}
