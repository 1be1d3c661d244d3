/**
 * The agent's side of ssh-agent's protocol: requests in, answers out. Which requests are granted is
 * not decided here.
 *
 * Source: RFC 9987 (draft-miller-ssh-agent); OpenSSH, PROTOCOL.agent 1 (session-bind).
 */
import { MAXIMUM_BLOB_BYTES } from './public-key.ts';
import { SshReader, SshWriter } from './wire.ts';

/** What a client may ask; `other` is answered with a failure. */
export type AgentRequest =
  | { readonly type: 'request-identities' }
  | SignRequest
  | SessionBind
  | { readonly type: 'query' }
  | { readonly type: 'other'; readonly number: number; readonly extension: string | undefined };

/** Sign `data` with the key of `publicKey`, which may be a certificate. */
export interface SignRequest {
  readonly type: 'sign';
  readonly publicKey: Buffer;
  readonly data: Buffer;
  /** For RSA keys the hash that the client wants; undefined: none, which meant SHA-1. */
  readonly rsa: 'rsa-sha2-256' | 'rsa-sha2-512' | undefined;
}

/** `session-bind@openssh.com`: what this connection is to be used for. Nothing in it is verified. */
export interface SessionBind {
  readonly type: 'session-bind';
  readonly hostKey: Buffer;
  readonly sessionId: Buffer;
  /** The host key's, over the session ID. */
  readonly signature: Buffer;
  readonly forwarding: boolean;
}

/** One key that the agent offers. */
export interface AgentIdentity {
  /** A key's or a certificate's blob. */
  readonly publicKey: Uint8Array;
  readonly comment: string;
}

const NUMBER = {
  failure: 5,
  success: 6,
  requestIdentities: 11,
  identitiesAnswer: 12,
  signRequest: 13,
  signResponse: 14,
  extension: 27,
  extensionResponse: 29,
} as const;

const SESSION_BIND = 'session-bind@openssh.com';
const QUERY = 'query';
const RSA_SHA2_256 = 2;
const RSA_SHA2_512 = 4;
const LONGEST_SESSION_ID = 64;
const LONGEST_SIGNATURE = 4096;

/**
 * @param message one message, without its length; untrusted
 * @throws Fault SSH_INVALID: answer with a failure
 */
export function parseAgentRequest(message: Uint8Array): AgentRequest {
  const reader = new SshReader(message, 'SSH agent request');
  const number = reader.u8();
  switch (number) {
    case NUMBER.requestIdentities:
      reader.end();
      return { type: 'request-identities' };
    case NUMBER.signRequest:
      return readSign(reader);
    case NUMBER.extension:
      return readExtension(reader);
    default:
      return { type: 'other', number, extension: undefined };
  }
}

/** The request is refused, or not known. */
export function agentFailure(): Buffer {
  return answer(new SshWriter().u8(NUMBER.failure));
}

export function agentSuccess(): Buffer {
  return answer(new SshWriter().u8(NUMBER.success));
}

/** To a request for identities. */
export function agentIdentities(identities: readonly AgentIdentity[]): Buffer {
  const writer = new SshWriter().u8(NUMBER.identitiesAnswer).u32(identities.length);
  for (const { publicKey, comment } of identities) writer.string(publicKey).string(comment);
  return answer(writer);
}

/**
 * To a request to sign.
 * @param signature as signSsh makes it
 */
export function agentSignature(signature: Uint8Array): Buffer {
  return answer(new SshWriter().u8(NUMBER.signResponse).string(signature));
}

/** To `query`: the extensions that parseAgentRequest knows. */
export function agentExtensions(): Buffer {
  const writer = new SshWriter().u8(NUMBER.extensionResponse);
  return answer(writer.string(QUERY).string(QUERY).string(SESSION_BIND));
}

function readSign(reader: SshReader): SignRequest {
  const publicKey = reader.string(MAXIMUM_BLOB_BYTES);
  const data = reader.string();
  const flags = reader.u32();
  reader.end();
  // Both at once: the client takes either, and OpenSSH's agent gives the first.
  if ((flags & RSA_SHA2_256) !== 0) return { type: 'sign', publicKey, data, rsa: 'rsa-sha2-256' };
  const rsa = (flags & RSA_SHA2_512) === 0 ? undefined : 'rsa-sha2-512';
  return { type: 'sign', publicKey, data, rsa };
}

function readExtension(reader: SshReader): AgentRequest {
  const name = reader.name();
  if (name === QUERY) {
    reader.end();
    return { type: 'query' };
  }
  if (name !== SESSION_BIND) return { type: 'other', number: NUMBER.extension, extension: name };
  const hostKey = reader.string(MAXIMUM_BLOB_BYTES);
  const sessionId = reader.string(LONGEST_SESSION_ID);
  const signature = reader.string(LONGEST_SIGNATURE);
  const forwarding = reader.boolean();
  reader.end();
  return { type: 'session-bind', hostKey, sessionId, signature, forwarding };
}

function answer(writer: SshWriter): Buffer {
  return new SshWriter().string(writer.finish()).finish();
}
