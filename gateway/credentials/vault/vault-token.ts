/**
 * The gateway's token at a Vault server. What a token made ends with it, so it is renewed in time, and
 * replaced by a new login where that no longer helps.
 *
 * Source: Vault HTTP API, "AppRole", "JWT/OIDC" and "Token" auth methods.
 */
import type { VaultServer } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { readSecretFile } from '../../../runtime/secret-file.ts';
import { readAuth, readLookup } from './vault-answers.ts';
import { VaultError, type VaultHttp, type VaultRequest } from './vault-http.ts';

/** Part of its time after which a token is renewed. */
const RENEW_AFTER = 2 / 3;
const END_TIMEOUT_MS = 3000;
/** Batch tokens of Vault are the longest. */
const LONGEST_WORD = 4096;
const RENEW_SELF = 'auth/token/renew-self';
const LOOKUP_SELF = 'auth/token/lookup-self';

/** Gives the gateway's own JWT-SVID for an audience. */
export type FetchJwtSvid = (audience: string, signal: AbortSignal) => Promise<string>;

export interface VaultTokenOptions {
  readonly http: VaultHttp;
  readonly server: VaultServer;
  readonly jwtSvid: FetchJwtSvid;
  readonly clock: Clock;
}

export interface Token {
  readonly text: string;
  /** Monotonic; Infinity if it never ends. */
  readonly endsAtMs: number;
  /** When it is to be renewed. */
  readonly dueMs: number;
  readonly isRenewable: boolean;
  /** What it was given at its login: a renewal that gives less shows that its end is near. */
  readonly fullMs: number;
}

/** One token at a time; who uses it asks for it anew each time. */
export class VaultToken {
  readonly #options: VaultTokenOptions;
  #token: Token | undefined;

  constructor(options: VaultTokenOptions) {
    this.#options = options;
  }

  /** Milliseconds until it is to be renewed. */
  get dueInMs(): number {
    const dueMs = this.#token?.dueMs ?? Number.POSITIVE_INFINITY;
    return dueMs - this.#options.clock.monotonicMs();
  }

  /** The token that is there, if any. */
  get value(): Token | undefined {
    return this.#token;
  }

  /** Logs in, renews or does nothing, as the token's time asks for. */
  async ensure(signal: AbortSignal): Promise<Token> {
    const now = this.#options.clock.monotonicMs();
    const token = this.#token;
    if (token === undefined || now >= token.endsAtMs) return this.#logIn(signal);
    if (now < token.dueMs) return token;
    const renewed = token.isRenewable ? await this.#renew(token, signal) : undefined;
    if (renewed === undefined) return this.#logIn(signal);
    this.#token = renewed;
    return renewed;
  }

  /** A request with the token; one that is refused because the token is no more is made once more. */
  async ask(request: Omit<VaultRequest, 'token'>): Promise<unknown> {
    const { http } = this.#options;
    const token = await this.ensure(request.signal);
    try {
      return await http.ask({ ...request, token: token.text });
    } catch (error) {
      if (!(error instanceof VaultError) || error.status !== 403) throw error;
      // Where the policy refuses, a new login would only use up what logins there are.
      if (await this.#isAlive(token, request.signal)) throw error;
      const other = await this.#logIn(request.signal);
      return await http.ask({ ...request, token: other.text });
    }
  }

  /**
   * Ends a token that a login made, and with it all that it made; one from a file is its writer's. Waits
   * at most 3 s unless told otherwise: a token ends by itself, too.
   */
  async end(signal = AbortSignal.timeout(END_TIMEOUT_MS)): Promise<void> {
    const { server, http } = this.#options;
    const token = this.#token;
    this.#token = undefined;
    if (token === undefined || server.auth.case === 'tokenFile') return;
    const request = { method: 'POST', path: 'auth/token/revoke-self', signal } as const;
    await http.ask({ ...request, token: token.text }).catch(() => undefined);
  }

  async #isAlive({ text: token }: Token, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#options.http.ask({ method: 'GET', path: LOOKUP_SELF, token, signal });
      return true;
    } catch (error) {
      if (error instanceof VaultError && error.status === 403) return false;
      throw error;
    }
  }

  async #logIn(signal: AbortSignal): Promise<Token> {
    const { server } = this.#options;
    const startedMs = this.#options.clock.monotonicMs();
    if (server.auth.case === 'tokenFile') {
      this.#token = await this.#fromFile(server.auth.value, { startedMs, signal });
      return this.#token;
    }
    const { path, body } = await this.#loginRequest(signal);
    const answer = await this.#options.http.ask({ method: 'POST', path, body, signal });
    const { auth } = readAuth(answer);
    this.#token = tokenOf(auth.client_token, { ...auth, startedMs });
    return this.#token;
  }

  async #loginRequest(
    signal: AbortSignal,
  ): Promise<{ path: string; body: Record<string, string> }> {
    const { server, jwtSvid } = this.#options;
    switch (server.auth.case) {
      case 'appRole': {
        const { mount, roleId, secretIdFile } = server.auth.value;
        const secretId = secretIdFile === '' ? undefined : await readOneWord(secretIdFile);
        const body = { role_id: roleId, ...(secretId !== undefined && { secret_id: secretId }) };
        return { path: `auth/${mount}/login`, body };
      }
      case 'jwt': {
        const { mount, role, audience } = server.auth.value;
        return {
          path: `auth/${mount}/login`,
          body: { role, jwt: await jwtSvid(audience, signal) },
        };
      }
      default:
        throw new Error('the backend names no way to log in to its Vault server');
    }
  }

  async #fromFile(
    file: string,
    { startedMs, signal }: { readonly startedMs: number; readonly signal: AbortSignal },
  ): Promise<Token> {
    const text = await readOneWord(file);
    const { data } = readLookup(
      await this.#options.http.ask({ method: 'GET', path: LOOKUP_SELF, token: text, signal }),
    );
    return tokenOf(text, { lease_duration: data.ttl, renewable: data.renewable, startedMs });
  }

  /** @returns undefined if a new login is what is needed */
  async #renew(token: Token, signal: AbortSignal): Promise<Token | undefined> {
    const { http, clock } = this.#options;
    const startedMs = clock.monotonicMs();
    try {
      const answer = await http.ask({
        method: 'POST',
        path: RENEW_SELF,
        token: token.text,
        body: {},
        signal,
      });
      const { auth } = readAuth(answer);
      const renewed = tokenOf(token.text, { ...auth, startedMs });
      return renewed.fullMs < token.fullMs / 2 ? undefined : { ...renewed, fullMs: token.fullMs };
    } catch (error) {
      if (error instanceof VaultError && error.status >= 400 && error.status < 500)
        return undefined;
      throw error;
    }
  }
}

/**
 * What is sent to the server must be what such a file holds: whoever declares a backend names the file
 * and the server, and must not have the gateway hand out a key or a file of settings.
 */
async function readOneWord(file: string): Promise<string> {
  const text = (await readSecretFile(file)).toString('utf8').trim();
  if (text.length <= LONGEST_WORD && /^[\x21-\x7e]+$/.test(text)) return text;
  throw new Error(`${file} holds something else than one token or secret ID`);
}

function tokenOf(
  text: string,
  given: {
    readonly lease_duration: number;
    readonly renewable: boolean;
    readonly startedMs: number;
  },
): Token {
  const { lease_duration: seconds, renewable, startedMs } = given;
  // That of a root token.
  const fullMs = seconds === 0 ? Number.POSITIVE_INFINITY : seconds * 1000;
  return {
    text,
    isRenewable: renewable,
    fullMs,
    endsAtMs: startedMs + fullMs,
    dueMs: startedMs + fullMs * RENEW_AFTER,
  };
}
