/**
 * A database engine that makes, renews and drops real accounts of a test's PostgreSQL.
 *
 * Source: Vault HTTP API, "Database secrets engine"; its PostgreSQL plugin for the templates.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../../runtime/clock.ts';
import { invalid, VaultRefusal } from './vault-errors.ts';
import type { FakeLeases } from './vault-leases.ts';

export interface DynamicRole {
  /** With `{{name}}`, `{{password}}` and `{{expiration}}`. */
  readonly creation: readonly string[];
  /** Those of the plugin unless given. */
  readonly revocation?: readonly string[];
  readonly renewal?: readonly string[];
  readonly ttlSeconds: number;
  readonly maxTtlSeconds: number;
}

export interface StaticRole {
  readonly username: string;
  readonly rotationSeconds: number;
}

export interface DatabaseOptions {
  /** Runs statements as an account that may make others. */
  readonly exec: (sql: string) => Promise<unknown>;
  readonly roles?: Readonly<Record<string, DynamicRole>>;
  readonly staticRoles?: Readonly<Record<string, StaticRole>>;
}

interface Rotated {
  readonly role: StaticRole;
  password: string;
  rotatedAt: Date;
  dueMs: number;
}

const RENEWAL = [`ALTER ROLE "{{name}}" VALID UNTIL '{{expiration}}';`];
const REVOCATION = ['DROP ROLE IF EXISTS "{{name}}";'];

export class FakeDatabase {
  readonly #options: DatabaseOptions;
  readonly #clock: Clock;
  readonly #leases: FakeLeases;
  readonly #rotated = new Map<string, Rotated>();
  /** Passwords of all accounts that it ever made: none may be seen anywhere. */
  readonly passwords: string[] = [];

  constructor(options: DatabaseOptions, clock: Clock, leases: FakeLeases) {
    this.#options = options;
    this.#clock = clock;
    this.#leases = leases;
  }

  /** @param path below the mount, e.g. `creds/writ` */
  async answer(mount: string, path: string, madeBy: string): Promise<object | undefined> {
    const [verb, name = ''] = path.split('/');
    if (verb === 'creds') return this.#creds(mount, name, madeBy);
    if (verb === 'static-creds') return this.#staticCreds(name);
    if (verb === 'rotate-role') return this.rotate(name);
    throw new VaultRefusal(404, [`unsupported path`]);
  }

  /** Gives the account of a static role a new password. */
  async rotate(name: string): Promise<undefined> {
    const role = this.#options.staticRoles?.[name];
    if (role === undefined) throw invalid(`unknown role: ${name}`);
    const password = this.#password();
    const rotatedAt = this.#clock.now();
    const dueMs = this.#clock.monotonicMs() + role.rotationSeconds * 1000;
    await this.#options.exec(`ALTER USER "${role.username}" WITH PASSWORD '${password}';`);
    this.#rotated.set(name, { role, password, rotatedAt, dueMs });
  }

  /** Rotates what is due. */
  async expire(): Promise<void> {
    for (const [name, { dueMs }] of this.#rotated) {
      if (dueMs <= this.#clock.monotonicMs()) await this.rotate(name);
    }
  }

  async #creds(mount: string, name: string, madeBy: string): Promise<object> {
    const role = this.#options.roles?.[name];
    if (role === undefined) throw invalid(`unknown role: ${name}`);
    const username = `v-test-${name}-${randomBytes(10).toString('hex')}`.slice(0, 63);
    const password = this.#password();
    const endsAt = new Date(this.#clock.now().getTime() + role.ttlSeconds * 1000);
    const run = (statements: readonly string[], until: Date) =>
      this.#run(statements, { name: username, password, expiration: until.toISOString() });
    await run(role.creation, endsAt);
    const lease = this.#leases.create(`${mount}/creds/${name}`, madeBy, {
      ttlSeconds: role.ttlSeconds,
      maxTtlSeconds: role.maxTtlSeconds,
      renewed: (until) => run(role.renewal ?? RENEWAL, until),
      ended: () => run(role.revocation ?? REVOCATION, endsAt),
    });
    return { ...lease, data: { username, password } };
  }

  async #staticCreds(name: string): Promise<object> {
    const known = this.#rotated.get(name);
    if (known === undefined) await this.rotate(name);
    const { role, password, rotatedAt, dueMs } = this.#rotated.get(name) ?? this.#absent(name);
    return {
      data: {
        username: role.username,
        password,
        last_vault_rotation: rotatedAt.toISOString(),
        rotation_period: role.rotationSeconds,
        ttl: Math.max(0, Math.round((dueMs - this.#clock.monotonicMs()) / 1000)),
      },
    };
  }

  #absent(name: string): never {
    throw invalid(`unknown role: ${name}`);
  }

  #password(): string {
    const password = `A1a-${randomBytes(12).toString('hex')}`;
    this.passwords.push(password);
    return password;
  }

  async #run(
    statements: readonly string[],
    values: Readonly<Record<string, string>>,
  ): Promise<void> {
    const sql = statements
      .join('\n')
      .replace(/\{\{(\w+)\}\}/g, (_, name: string) => values[name] ?? '');
    try {
      await this.#options.exec(sql);
    } catch (error) {
      const reason = error instanceof Error ? error.message : 'unknown';
      throw new VaultRefusal(500, [
        `1 error occurred:\n\t* failed to execute query: ${reason}\n\n`,
      ]);
    }
  }
}
