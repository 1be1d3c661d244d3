import { SshReader, SshWriter } from '../../../../identity/ssh/wire.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { DISCONNECT, MESSAGE, message, violation } from './ssh2-messages.ts';
import type { SshTransport } from './ssh2-transport.ts';

/** One try of a client to log in with a key. All of it untrusted. */
export interface PublicKeyAttempt {
  readonly user: string;
  /** As the client names it: not yet fitted to the key or the signature. */
  readonly algorithm: string;
  /** A key's or a certificate's blob, not parsed. */
  readonly publicKey: Uint8Array;
  /** Undefined while the client only asks whether the key would do: to accept that logs nobody in. */
  readonly proof:
    | {
        /** What parseUserAuthData reads; built here, from this connection's own session ID. */
        readonly signedData: Uint8Array;
        /** The whole blob: algorithm and value. */
        readonly signature: Uint8Array;
      }
    | undefined;
}

/** A banner is shown to the client's user: give one only to who has proved something. */
export type AuthenticationAnswer =
  | { readonly accepted: true }
  | { readonly accepted: false; readonly banner?: string };

export interface AuthenticationOptions {
  readonly transport: Pick<SshTransport, 'send' | 'sessionId' | 'isOver' | 'disconnect'>;
  /** Failed attempts, and questions about keys, that a client has. */
  readonly maximumAttempts: number;
  authenticate(attempt: PublicKeyAttempt): Promise<AuthenticationAnswer>;
  accepted(): void;
}

interface UserAuthRequest {
  readonly payload: Buffer;
  readonly user: string;
  readonly method: string;
  readonly reader: SshReader;
}

const LONGEST_USER = 512;
const LONGEST_NAME = 128;
const LONGEST_BANNER = 1000;

/** A client may send its requests without waiting. */
const MOST_WAITING = 8;

/**
 * A client's login, by public key alone. One request is answered before the next is looked at.
 *
 * Source: RFC 4252.
 */
export class Authentication {
  readonly #options: AuthenticationOptions;
  readonly #waiting: UserAuthRequest[] = [];
  #isServed = false;
  #isBusy = false;
  #isAccepted = false;
  #user: string | undefined;
  #hasAskedForMethods = false;
  #failures = 0;
  #questions = 0;

  constructor(options: AuthenticationOptions) {
    this.#options = options;
  }

  get isAccepted(): boolean {
    return this.#isAccepted;
  }

  /**
   * A message below the connection protocol.
   * @throws Fault PROTOCOL_VIOLATION or SSH_INVALID
   */
  receive(payload: Buffer): void {
    const reader = new SshReader(payload.subarray(1), 'SSH message');
    if (payload[0] === MESSAGE.SERVICE_REQUEST) {
      this.#serve(reader);
    } else if (payload[0] === MESSAGE.EXT_INFO && !this.#isServed) {
      return;
    } else if (payload[0] === MESSAGE.USERAUTH_REQUEST && this.#isServed) {
      // After the login the protocol wants them ignored.
      if (!this.#isAccepted) this.#queue(payload, reader);
    } else {
      throw violation('a message out of turn');
    }
  }

  #serve(reader: SshReader): void {
    const name = reader.text(LONGEST_NAME);
    reader.end();
    if (this.#isServed || name !== 'ssh-userauth') {
      this.#options.transport.disconnect(
        violation('service not available'),
        DISCONNECT.SERVICE_NOT_AVAILABLE,
      );
      return;
    }
    this.#isServed = true;
    this.#options.transport.send(message(MESSAGE.SERVICE_ACCEPT).string(name).finish());
  }

  #queue(payload: Buffer, reader: SshReader): void {
    const user = reader.text(LONGEST_USER);
    const service = reader.text(LONGEST_NAME);
    const method = reader.text(LONGEST_NAME);
    if (service !== 'ssh-connection') throw violation('service not available');
    if (this.#user !== undefined && this.#user !== user) throw violation('the user has changed');
    if (this.#waiting.length >= MOST_WAITING) throw violation('too many attempts at once');
    this.#user = user;
    this.#waiting.push({ payload, user, method, reader });
    this.#next();
  }

  #next(): void {
    while (!this.#isBusy && !this.#isAccepted && !this.#options.transport.isOver) {
      const request = this.#waiting.shift();
      if (request === undefined) return;
      this.#answer(request);
    }
  }

  #answer(request: UserAuthRequest): void {
    const isQuestion = request.method === 'none' && !this.#hasAskedForMethods;
    if (isQuestion) this.#hasAskedForMethods = true;
    if (request.method === 'publickey') {
      this.#isBusy = true;
      void this.#tryKey(this.#readAttempt(request));
    } else if (isQuestion) {
      this.#sendFailure();
    } else {
      this.#fail();
    }
  }

  #readAttempt({ payload, user, reader }: UserAuthRequest): PublicKeyAttempt {
    const hasProof = reader.boolean();
    const algorithm = reader.text(LONGEST_NAME);
    const publicKey = reader.string();
    const signedLength = 1 + reader.offset;
    const signature = hasProof ? reader.string() : undefined;
    reader.end();
    if (signature === undefined) return { user, algorithm, publicKey, proof: undefined };
    const signedData = new SshWriter()
      .string(this.#options.transport.sessionId)
      .raw(payload.subarray(0, signedLength))
      .finish();
    return { user, algorithm, publicKey, proof: { signedData, signature } };
  }

  async #tryKey(attempt: PublicKeyAttempt): Promise<void> {
    const { transport } = this.#options;
    try {
      const answer = await this.#options.authenticate(attempt);
      if (transport.isOver) return;
      this.#isBusy = false;
      if (!answer.accepted) this.#fail(answer.banner);
      else if (attempt.proof === undefined) this.#confirmKey(attempt);
      else this.#accept();
      this.#next();
    } catch (error) {
      // What runs outside of the transport's own calls must end the connection itself.
      transport.disconnect(Fault.from(error), DISCONNECT.BY_APPLICATION);
    }
  }

  #accept(): void {
    this.#isAccepted = true;
    this.#waiting.length = 0;
    this.#options.transport.send(message(MESSAGE.USERAUTH_SUCCESS).finish());
    this.#options.accepted();
  }

  #confirmKey({ algorithm, publicKey }: PublicKeyAttempt): void {
    this.#questions += 1;
    if (this.#questions > this.#options.maximumAttempts) {
      this.#giveUp();
      return;
    }
    const reply = message(MESSAGE.USERAUTH_PK_OK).string(algorithm).string(publicKey);
    this.#options.transport.send(reply.finish());
  }

  #fail(banner?: string): void {
    this.#failures += 1;
    if (banner !== undefined) this.#sendBanner(banner);
    if (this.#failures < this.#options.maximumAttempts) this.#sendFailure();
    else this.#giveUp();
  }

  #giveUp(): void {
    this.#options.transport.disconnect(
      new Fault('UNAUTHENTICATED', 'too many authentication failures'),
      DISCONNECT.NO_MORE_AUTH_METHODS_AVAILABLE,
    );
  }

  #sendFailure(): void {
    const reply = message(MESSAGE.USERAUTH_FAILURE).string('publickey').boolean(false);
    this.#options.transport.send(reply.finish());
  }

  #sendBanner(text: string): void {
    const lines = text.slice(0, LONGEST_BANNER).trimEnd().replaceAll(/\r?\n/g, '\r\n');
    const banner = message(MESSAGE.USERAUTH_BANNER).string(`${lines}\r\n`).string('');
    this.#options.transport.send(banner.finish());
  }
}
