import type { VaultDatabase } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { LoginReader, ReadLogin } from '../refreshed-login.ts';
import { readStaticCreds } from './vault-answers.ts';
import type { VaultToken } from './vault-token.ts';

/** For a role that is rotated by hand, and so tells no time. */
const LONGEST_REFRESH_MS = 5 * 60_000;
/** A server rotates a little after the time that it tells. */
const ROTATION_DELAY_MS = 2000;

/**
 * An account whose password the database engine rotates.
 *
 * Source: Vault HTTP API, "Database secrets engine", static roles.
 */
export class VaultStaticLogin implements LoginReader {
  readonly #database: VaultDatabase;
  readonly #token: VaultToken;

  constructor(database: VaultDatabase, token: VaultToken) {
    this.#database = database;
    this.#token = token;
  }

  async read(signal: AbortSignal): Promise<ReadLogin> {
    const path = `${this.#database.mount}/static-creds/${this.#database.role}`;
    const { data } = readStaticCreds(await this.#token.ask({ method: 'GET', path, signal }));
    const { username: user, password, ttl } = data;
    const rotationMs = ttl === 0 ? LONGEST_REFRESH_MS : ttl * 1000 + ROTATION_DELAY_MS;
    const refreshMs = Math.min(rotationMs, LONGEST_REFRESH_MS, this.#token.dueInMs);
    return { login: { user, password }, refreshMs };
  }

  async end(): Promise<void> {
    await this.#token.end();
  }
}
