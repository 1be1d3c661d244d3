/** What a backend's control connections log in with, wherever it is kept. */

export interface Login {
  readonly user: string;
  /** Undefined where a client certificate alone proves the gateway. */
  readonly password: string | undefined;
}

/**
 * Gives the login of one backend. A source that is remote keeps what it read, refreshes it by itself,
 * and goes on with the last one while it cannot be reached, never beyond that one's lease.
 */
export interface LoginSource extends AsyncDisposable {
  /**
   * The login for a new connection.
   * @throws Fault UNAVAILABLE if there is none; message and cause tell where it was looked for, and hold
   *   no secret. The signal's reason when it aborts.
   */
  current(signal: AbortSignal): Promise<Login>;

  /** The backend took it. */
  accepted(login: Login): void;

  /** The backend refused it: the next `current` looks for another one before it answers with the same. */
  rejected(login: Login): void;

  /**
   * Whether connections that logged in with it are to be left for new ones, because its account ends
   * before long. A password that has changed is no reason: what is logged in stays.
   */
  isOver(login: Login): boolean;

  /**
   * Has `leave` called when `isOver` has become true of a login, for connections that are not in use.
   * A source whose account stays lacks this.
   * @returns ends it
   */
  onOver?(leave: () => void): () => void;
}

/** The same source for one user of several: it is not disposed with them. */
export function lent(source: LoginSource): LoginSource {
  return {
    current: (signal) => source.current(signal),
    accepted: (login) => source.accepted(login),
    rejected: (login) => source.rejected(login),
    isOver: (login) => source.isOver(login),
    ...(source.onOver && { onOver: source.onOver.bind(source) }),
    [Symbol.asyncDispose]: async () => undefined,
  };
}
