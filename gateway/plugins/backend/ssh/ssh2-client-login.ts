import type { KeyObject } from 'node:crypto';
import { CERTIFICATE_SUFFIX, sshKeyType } from '../../../../identity/ssh/public-key.ts';
import { signSsh } from '../../../../identity/ssh/signature.ts';
import { SshReader, SshWriter } from '../../../../identity/ssh/wire.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { hostKeyAlgorithms } from './ssh2-host-keys.ts';
import { DISCONNECT, MESSAGE, message, violation } from './ssh2-messages.ts';
import type { SshTransport } from './ssh2-transport.ts';

export interface ClientLoginOptions {
  readonly transport: Pick<SshTransport, 'send' | 'sessionId' | 'disconnect'>;
  readonly user: string;
  readonly privateKey: KeyObject;
  readonly certificate: Uint8Array;
}

/**
 * A login with one certificate, in one step: the server is not asked first whether it would do.
 *
 * Source: RFC 4252 7.
 */
export class ClientLogin {
  readonly #options: ClientLoginOptions;
  #awaits: 'service' | 'answer' | 'nothing' = 'service';

  constructor(options: ClientLoginOptions) {
    this.#options = options;
  }

  get isAccepted(): boolean {
    return this.#awaits === 'nothing';
  }

  start(): void {
    const request = message(MESSAGE.SERVICE_REQUEST).string('ssh-userauth');
    this.#options.transport.send(request.finish());
  }

  /**
   * A message below the connection protocol.
   * @returns whether the login has succeeded with it
   * @throws Fault PROTOCOL_VIOLATION, SSH_INVALID
   */
  receive(payload: Buffer): boolean {
    switch (payload[0]) {
      case MESSAGE.EXT_INFO:
      case MESSAGE.USERAUTH_BANNER:
        return false;
      case MESSAGE.SERVICE_ACCEPT:
        this.#expect('service', 'answer');
        this.#sendRequest();
        return false;
      case MESSAGE.USERAUTH_SUCCESS:
        this.#expect('answer', 'nothing');
        return true;
      case MESSAGE.USERAUTH_FAILURE:
        this.#expect('answer', 'answer');
        this.#refused(new SshReader(payload.subarray(1), 'SSH message'));
        return false;
      default:
        throw violation('the target sends a message out of turn');
    }
  }

  #expect(now: 'service' | 'answer', next: 'answer' | 'nothing'): void {
    if (this.#awaits !== now) throw violation('the target sends a message out of turn');
    this.#awaits = next;
  }

  #refused(reader: SshReader): void {
    reader.text();
    const isPartial = reader.boolean();
    const text = isPartial
      ? 'the target wants more than a certificate'
      : "the target refuses the gateway's certificate";
    this.#options.transport.disconnect(new Fault('UNAVAILABLE', text), DISCONNECT.BY_APPLICATION);
  }

  #sendRequest(): void {
    const { transport, user, privateKey, certificate } = this.#options;
    const [algorithm = ''] = hostKeyAlgorithms(sshKeyType(privateKey));
    const request = message(MESSAGE.USERAUTH_REQUEST)
      .string(user)
      .string('ssh-connection')
      .string('publickey')
      .boolean(true)
      .string(`${algorithm}${CERTIFICATE_SUFFIX}`)
      .string(certificate)
      .finish();
    const signed = new SshWriter().string(transport.sessionId).raw(request).finish();
    const signature = new SshWriter().string(signSsh(privateKey, signed)).finish();
    transport.send(request, signature);
  }
}
