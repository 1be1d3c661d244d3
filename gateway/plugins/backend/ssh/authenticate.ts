import { Fault } from '../../../../runtime/fault.ts';
import type { Logger } from '../../../../runtime/log.ts';
import type { SessionPeer } from '../../../session/session-desk.ts';
import { notice } from './notice.ts';
import { NO_CERTIFICATE } from './prove-client.ts';
import type { AuthenticationAnswer, PublicKeyAttempt } from './ssh2-server.ts';

export interface AuthenticationOptions {
  /** As `proveClient`. */
  prove(attempt: PublicKeyAttempt): SessionPeer | undefined;
  /**
   * Lets a client in that has proved who it is.
   * @param user untrusted
   * @throws Fault, told to the client: it then tries its next identity
   */
  admit(user: string, peer: SessionPeer): Promise<void>;
  /** One event: a certificate or a proof that is wrong. */
  refused(reason: string): void;
  readonly log: Logger;
}

/** The logins of one connection, one after the other, of which at most one succeeds. */
export class Authentication {
  readonly #options: AuthenticationOptions;
  #turn: Promise<unknown> = Promise.resolve();
  #isIn = false;
  #isOver = false;
  #offeredPlainKey = false;

  constructor(options: AuthenticationOptions) {
    this.#options = options;
  }

  /** Whether the client showed keys without certificates and has not come in. */
  get onlyPlainKeys(): boolean {
    return this.#offeredPlainKey && !this.#isIn;
  }

  /** Never rejects. */
  authenticate(attempt: PublicKeyAttempt): Promise<AuthenticationAnswer> {
    const answer = this.#turn.then(() => this.#authenticate(attempt));
    this.#turn = answer;
    return answer;
  }

  /** Admits nobody from here on; resolves when nothing is under way any more. */
  async close(): Promise<void> {
    this.#isOver = true;
    await this.#turn;
  }

  async #authenticate(attempt: PublicKeyAttempt): Promise<AuthenticationAnswer> {
    if (this.#isIn || this.#isOver) return { accepted: false };
    let peer: SessionPeer | undefined;
    try {
      peer = this.#options.prove(attempt);
    } catch (error) {
      this.#wrong(error);
      return { accepted: false };
    }
    if (peer === undefined) return { accepted: true };
    try {
      await this.#options.admit(attempt.user, peer);
    } catch (error) {
      return { accepted: false, banner: `${notice(this.#told(error))}\n` };
    }
    this.#isIn = true;
    return { accepted: true };
  }

  #wrong(error: unknown): void {
    const { code, message } = Fault.from(error);
    if (code !== 'SSH_INVALID') this.#options.log.error({ err: error }, 'a login failed');
    if (message === NO_CERTIFICATE) this.#offeredPlainKey = true;
    else this.#options.refused(message);
  }

  #told(error: unknown): string {
    const fault = Fault.from(error);
    if (fault.code === 'INTERNAL') this.#options.log.error({ err: error }, 'a login failed');
    return fault.message;
  }
}
