/** Logins whose password is on the gateway's own host. */
import { Fault } from '../../runtime/fault.ts';
import { readSecretFile } from '../../runtime/secret-file.ts';
import type { Login, LoginSource } from './login-source.ts';

/**
 * Reads the password at each new connection and keeps nothing: whoever takes it away means it.
 * @param password undefined where a client certificate alone proves the gateway
 */
function localLogin(user: string, password: () => Promise<string | undefined>): LoginSource {
  return {
    async current() {
      try {
        return { user, password: await password() };
      } catch (cause) {
        throw new Fault('UNAVAILABLE', "the backend's login cannot be read", { cause });
      }
    },
    accepted: () => undefined,
    rejected: () => undefined,
    isOver: () => false,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** The password is in a file. */
export function fileLogin(user: string, file: string): LoginSource {
  return localLogin(user, async () => (await readSecretFile(file)).toString('utf8'));
}

/**
 * The password is in a variable of this process's environment.
 * @param environment that of the process unless given
 */
export function environmentLogin(
  user: string,
  variable: string,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): LoginSource {
  return localLogin(user, async () => {
    const password = environment[variable];
    if (password !== undefined && password !== '') return password;
    throw new Error(`the gateway's environment has no variable ${variable}`);
  });
}

/** There is no password: TLS shows the client certificate. */
export function certificateLogin(user: string): LoginSource {
  return localLogin(user, async () => undefined);
}

/** Whether two logins are the same to a backend. */
export function isSameLogin(one: Login, other: Login): boolean {
  return one.user === other.user && one.password === other.password;
}
