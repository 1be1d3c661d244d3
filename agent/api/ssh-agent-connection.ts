/** One client's connection to the ssh-agent socket: what it may have and have signed. */
import {
  type AgentRequest,
  agentExtensions,
  agentFailure,
  agentIdentities,
  agentSignature,
  agentSuccess,
  parseAgentRequest,
  type SessionBind,
  type SignRequest,
} from '../../identity/ssh/agent-protocol.ts';
import { fingerprint } from '../../identity/ssh/public-key.ts';
import { signSsh } from '../../identity/ssh/signature.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Logger } from '../../runtime/log.ts';
import type { HeldCertificate, SshCertificateCache } from '../ssh/certificate-cache.ts';
import { requireLogin, type SessionBinding, verifySessionBind } from '../ssh/may-sign.ts';
import type { UsefulIdentities } from '../ssh/useful-identities.ts';
import type { Identity } from '../svid/cache.ts';

/** A server counts every key that its client tries: OpenSSH's and our gateways take six. */
const MOST_OFFERED = 6;
/** Of which some may be refused by the server. */
const MOST_TRIED = 16;

export interface SshAgentConnectionOptions {
  /** What the client may use now, read anew each time. @throws Fault if it has gone */
  identities(): Promise<readonly Identity[]>;
  readonly certificates: SshCertificateCache;
  readonly useful: Pick<UsefulIdentities, 'first'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Whether a refusal of this kind is worth a line in the log. */
  isNews(request: string, reason: string): boolean;
  onRequest(outcome: { readonly request: string; readonly outcome: 'ok' | 'refused' }): void;
}

/** Answers one request after the other. */
export class SshAgentConnection {
  readonly #options: SshAgentConnectionOptions;
  #wasBound = false;
  #binding: SessionBinding | undefined;
  #offered: readonly HeldCertificate[] = [];

  constructor(options: SshAgentConnectionOptions) {
    this.#options = options;
  }

  /**
   * The whole answer, its length before it.
   * @param message without its length; untrusted
   */
  async answer(message: Uint8Array): Promise<Buffer> {
    const { log, onRequest } = this.#options;
    let request = 'malformed';
    try {
      const parsed = parseAgentRequest(message);
      request = parsed.type;
      const answer = await this.#handle(parsed);
      onRequest({ request, outcome: 'ok' });
      return answer;
    } catch (error) {
      onRequest({ request, outcome: 'refused' });
      const err = Fault.from(error);
      if (err.code === 'INTERNAL') log.error({ request, err }, 'ssh-agent failed on a defect');
      else if (this.#options.isNews(request, err.message))
        log.info({ request, code: err.code, err }, 'ssh-agent request refused');
      // Many clients give up at a failure here, where no key is what they can go on with.
      return request === 'request-identities' ? agentIdentities([]) : agentFailure();
    }
  }

  async #handle(request: AgentRequest): Promise<Buffer> {
    switch (request.type) {
      case 'request-identities':
        return await this.#offer();
      case 'sign':
        return await this.#sign(request);
      case 'session-bind':
        return this.#bind(request);
      case 'query':
        return agentExtensions();
      case 'other':
        throw refused('not offered', request.extension ?? `message ${request.number}`);
    }
  }

  async #offer(): Promise<Buffer> {
    this.#offered = [];
    if (this.#binding?.forwarding === true) throw refused('the agent is forwarded');
    const identities = await this.#options.identities();
    if (identities.length === 0) throw refused('no identity issued');
    const ordered = await this.#options.useful.first(identities);
    this.#offered = await this.#certificatesOf(ordered.slice(0, MOST_TRIED));
    return agentIdentities(
      this.#offered.map(({ certificate, entry }) => ({
        publicKey: certificate.blob,
        comment: String(entry.spiffeId),
      })),
    );
  }

  /** Of the first that can be had. @throws Fault if none can */
  async #certificatesOf(identities: readonly Identity[]): Promise<HeldCertificate[]> {
    const { certificates } = this.#options;
    const waiting = [...identities];
    const had: HeldCertificate[] = [];
    let failure: unknown;
    while (had.length < MOST_OFFERED && waiting.length > 0) {
      const some = waiting.splice(0, MOST_OFFERED - had.length);
      const results = await Promise.allSettled(some.map(({ entry }) => certificates.get(entry)));
      for (const result of results) {
        if (result.status === 'fulfilled') had.push(result.value);
        else failure = result.reason;
      }
      if (failure !== undefined && !isRefusal(failure)) break;
    }
    if (had.length === 0) throw failure;
    return had;
  }

  #bind(request: SessionBind): Buffer {
    // One attempt: each costs two verifications, and none that fails is an SSH client's.
    if (this.#wasBound) throw refused('bound already');
    this.#wasBound = true;
    this.#binding = verifySessionBind(request);
    return agentSuccess();
  }

  async #sign(request: SignRequest): Promise<Buffer> {
    const { clock, log } = this.#options;
    const held = this.#offered.find(({ certificate }) =>
      certificate.blob.equals(request.publicKey),
    );
    if (held === undefined) throw refused('not a certificate that was offered here');
    requireLogin(request, held, { binding: this.#binding, now: clock.now() });
    await this.#requireEntitled(held);
    log.info(
      {
        spiffe_id: String(held.entry.spiffeId),
        entry_id: held.entry.id,
        serial_number: String(held.certificate.serial),
        host_key: fingerprint(this.#binding?.hostKey ?? Buffer.alloc(0)),
      },
      'SSH login signed',
    );
    return agentSignature(signSsh(held.key, request.data));
  }

  /** The client may have lost the identity since it was offered. */
  async #requireEntitled({ entry }: HeldCertificate): Promise<void> {
    const identities = await this.#options.identities();
    const isHeld = identities.some(
      ({ entry: { id, spiffeId } }) =>
        id === entry.id && String(spiffeId) === String(entry.spiffeId),
    );
    if (!isHeld) throw refused('no longer an identity of the client');
  }
}

function isRefusal(reason: unknown): boolean {
  return reason instanceof Fault && reason.code === 'PERMISSION_DENIED';
}

function refused(message: string, cause?: string): Fault {
  return new Fault('PERMISSION_DENIED', message, { cause });
}
