import { Fault } from '../../../../runtime/fault.ts';

/** What an SSH user name says of the session that its client wants. */
export interface LoginWish {
  readonly login: string;
  readonly backend: string;
  /** Empty if the client named none (threats S13). */
  readonly grant: string;
}

const MAXIMUM_CHARACTERS = 256;
const LOGIN = /^[a-z_][a-z0-9_-]{0,31}$/;
const NAME = /^[A-Za-z0-9_.-]{1,128}$/;
const SEPARATOR = '+';

/**
 * The wish in `login+backend` or `login+backend+grant`, said to the gateway itself.
 * @param user untrusted
 * @returns undefined for a name without `+`: a client on its way to another connection (ProxyJump)
 * @throws Fault INVALID_ARGUMENT
 */
export function readDirectUser(user: string): LoginWish | undefined {
  requireShort(user);
  if (!user.includes(SEPARATOR)) return undefined;
  const [login = '', backend = '', grant, ...rest] = user.split(SEPARATOR);
  const isWish = LOGIN.test(login) && NAME.test(backend) && isGrant(grant) && rest.length === 0;
  if (!isWish) throw wrong('login+backend or login+backend+grant');
  return { login, backend, grant: grant ?? '' };
}

/**
 * The wish in `login` or `login+grant`, said where the gateway stands for `backend`.
 * @param user untrusted
 * @throws Fault INVALID_ARGUMENT
 */
export function readInnerUser(user: string, backend: string): LoginWish {
  requireShort(user);
  const [login = '', grant, ...rest] = user.split(SEPARATOR);
  if (!LOGIN.test(login) || !isGrant(grant) || rest.length > 0) throw wrong('login or login+grant');
  return { login, backend, grant: grant ?? '' };
}

function isGrant(text: string | undefined): boolean {
  return text === undefined || NAME.test(text);
}

function requireShort(user: string): void {
  if (user.length > MAXIMUM_CHARACTERS) {
    throw new Fault(
      'INVALID_ARGUMENT',
      `a user name of more than ${MAXIMUM_CHARACTERS} characters`,
    );
  }
}

function wrong(shape: string): Fault {
  return new Fault('INVALID_ARGUMENT', `the user name is not of the form ${shape}`);
}
