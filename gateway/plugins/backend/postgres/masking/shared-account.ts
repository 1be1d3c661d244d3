import type { PostgresBackend } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../../../../runtime/clock.ts';
import { Fault } from '../../../../../runtime/fault.ts';
import type { Login, LoginSource } from '../../../../credentials/login-source.ts';
import type { RoleCredential, RoleKeeper } from '../client/served-backend.ts';
import { CHOSEN_PASSWORD } from '../upstream/scram.ts';

const READ_TIMEOUT_MS = 10_000;

export interface SharedAccountOptions {
  /** Of the account's login. */
  readonly source: LoginSource;
  readonly expiresAt: Date;
  readonly clock: Clock;
  /** Waits for what must be known before a session may begin. */
  ready(): Promise<void>;
  /** Where the account is to be used. */
  locate(): Promise<PostgresBackend>;
}

/**
 * Sessions of a backend whose roles cannot be changed: all log in with the gateway's own account. It
 * is neither made nor sealed nor dropped.
 */
export class SharedAccount implements RoleKeeper {
  readonly #options: SharedAccountOptions;

  constructor(options: SharedAccountOptions) {
    this.#options = options;
  }

  async open({ onTurn }: { onTurn?(address: PostgresBackend): void }): Promise<RoleCredential> {
    const { expiresAt, clock, ready, locate } = this.#options;
    if (clock.now() >= expiresAt) {
      throw new Fault('PERMISSION_DENIED', "the backend's exception has expired");
    }
    await ready();
    const login = await this.#login();
    const at = await locate();
    onTurn?.(at);
    return {
      role: login.user,
      password: login.password,
      iterations: CHOSEN_PASSWORD,
      address: at,
      refused: () => this.#changedPassword(login),
    };
  }

  async #login(): Promise<Login> {
    try {
      return await this.#options.source.current(AbortSignal.timeout(READ_TIMEOUT_MS));
    } catch (cause) {
      if (cause instanceof Fault) throw cause;
      throw new Fault('UNAVAILABLE', 'the gateway cannot log in to the backend', { cause });
    }
  }

  /** The password may have been changed since it was read. */
  async #changedPassword(login: Login): Promise<string | undefined> {
    this.#options.source.rejected(login);
    const { user, password } = await this.#login();
    return user === login.user && password !== login.password ? password : undefined;
  }

  async seal(): Promise<void> {
    // There is nothing to seal: the account serves the next session too.
  }

  async close(): Promise<void> {
    // The connection's end is the session's end.
  }
}
