/**
 * The ssh-agent socket: each client is offered certificates of the identities that it, or the program
 * that started it, has (threats S14). Keys are never given out.
 */
import { once } from 'node:events';
import type net from 'node:net';
import { AgentFrames } from '../../identity/ssh/agent-frames.ts';
import type { Clock } from '../../runtime/clock.ts';
import { DenialLimiter } from '../../runtime/denial-limiter.ts';
import { Fault } from '../../runtime/fault.ts';
import type { SshCertificateCache } from '../ssh/certificate-cache.ts';
import { type SshIdentitiesOptions, sshIdentities } from '../workload/ssh-identities.ts';
import { listenLocal } from './listen-local.ts';
import { SshAgentConnection, type SshAgentConnectionOptions } from './ssh-agent-connection.ts';
import { UserTurns } from './user-turns.ts';

/** Each may hold half a megabyte of a message for as long as that may take. */
const CONNECTIONS_PER_USER = 256;
/** Each may cost an attestation of a whole lineage, or certificates. */
const REQUESTS_PER_USER = 8;
/** For a message, from its first byte to its last. */
const MESSAGE_MS = 10_000;

export interface SshAgentEndpointOptions extends SshIdentitiesOptions {
  /** Of the socket, at most 107 bytes. */
  readonly path: string;
  readonly certificates: SshCertificateCache;
  readonly useful: SshAgentConnectionOptions['useful'];
  readonly clock: Clock;
  onRequest: SshAgentConnectionOptions['onRequest'];
  /** A connection that ended without a request, that broke the protocol or was turned away. */
  onRefused(): void;
}

/** @throws Fault `STATE_UNUSABLE` if the socket cannot be made */
export async function listenSshAgent(options: SshAgentEndpointOptions): Promise<AsyncDisposable> {
  const { path, certificates, useful, clock, log, onRequest, onRefused } = options;
  const turns = new UserTurns(REQUESTS_PER_USER);
  const refusals = new DenialLimiter(clock);
  return await listenLocal({
    ...{ path, log, clock, connectionsPerUser: CONNECTIONS_PER_USER, onRefused },
    onConnection: (socket, peer) => {
      const ofPeer = log.child({ peer_uid: peer.uid, peer_pid: peer.pid });
      const connection = new SshAgentConnection({
        ...{ certificates, useful, clock, onRequest, log: ofPeer },
        identities: () => sshIdentities(peer, options),
        isNews: (request, reason) => refusals.admit(String(peer.uid), request, reason),
      });
      const answer = (message: Uint8Array) => turns.run(peer.uid, () => connection.answer(message));
      void serve(socket, answer, { clock, log: ofPeer, onRefused });
    },
  });
}

/** Until the client goes or breaks the protocol; never rejects. */
async function serve(
  socket: net.Socket,
  answer: (message: Uint8Array) => Promise<Buffer>,
  { clock, log, onRefused }: Pick<SshAgentEndpointOptions, 'clock' | 'log' | 'onRefused'>,
): Promise<void> {
  const late = new Fault('PROTOCOL_VIOLATION', 'a message took too long');
  const deadline = new MessageDeadline(clock, () => socket.destroy(late));
  const closed = new AbortController();
  socket.once('close', () => closed.abort());
  let answered = 0;
  try {
    for await (const message of messages(socket, deadline)) {
      const isTaken = socket.write(await answer(message));
      answered += 1;
      if (!isTaken) await once(socket, 'drain', { signal: closed.signal });
    }
    if (answered === 0) onRefused();
  } catch (error) {
    // What is no Fault is a client that went without a word.
    if (answered === 0 || error instanceof Fault) onRefused();
    log.debug({ err: error }, 'ssh-agent connection broken off');
  } finally {
    deadline.clear();
    socket.destroy();
  }
}

/** @throws Fault SSH_INVALID for what is no message */
async function* messages(socket: net.Socket, deadline: MessageDeadline): AsyncGenerator<Buffer> {
  const frames = new AgentFrames();
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    frames.add(chunk);
    for (let message = frames.take(); message !== undefined; message = frames.take()) {
      deadline.clear();
      yield message;
    }
    if (frames.held > 0) deadline.start();
  }
}

/** Runs while a message has begun and not ended. */
class MessageDeadline {
  readonly #clock: Clock;
  readonly #onLate: () => void;
  #running: AbortController | undefined;

  constructor(clock: Clock, onLate: () => void) {
    this.#clock = clock;
    this.#onLate = onLate;
  }

  /** Does nothing if it runs already. */
  start(): void {
    if (this.#running !== undefined) return;
    const running = new AbortController();
    this.#running = running;
    this.#clock.wait(MESSAGE_MS, running.signal).then(this.#onLate, () => undefined);
  }

  clear(): void {
    this.#running?.abort();
    this.#running = undefined;
  }
}
