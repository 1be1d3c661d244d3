/**
 * The one door to ssh2: of it we use the transport (RFC 4253: version exchange, key exchange, ciphers,
 * packets) and nothing else. Its Server, Client, Channel and key parser stay unused: they accept any host
 * key without a verifier, read certificate lines as keys, throw away what a peer sends beyond its
 * window, emit errors twice and answer some requests never. User authentication and channels are ours.
 *
 * What is used is no public API. So the version is pinned, each shape is looked at when this file loads
 * and at each connection, and `selfTest` runs a whole login before a gateway serves.
 */
import { type KeyObject, verify } from 'node:crypto';
import { createRequire } from 'node:module';
import { parseSshCertificate, type SshCertificate } from '../../../../identity/ssh/certificate.ts';
import { CERTIFICATE_SUFFIX } from '../../../../identity/ssh/public-key.ts';
import { SshWriter } from '../../../../identity/ssh/wire.ts';

const VERSION = '1.17.0';
const PATCHED = Symbol.for('writ.ssh2.host-certificates');
const DIGESTS: Readonly<Record<SshCertificate['keyType'], string | null>> = {
  'ssh-ed25519': null,
  'ecdsa-sha2-nistp256': 'sha256',
  'ecdsa-sha2-nistp384': 'sha384',
  'ecdsa-sha2-nistp521': 'sha512',
  'ssh-rsa': 'sha512',
};

/** Names as in RFC 4253 section 7.1. */
export interface AlgorithmOffer {
  kex: string[];
  readonly serverHostKey: readonly string[];
  readonly cs: DirectionOffer;
  readonly sc: DirectionOffer;
}

interface DirectionOffer {
  readonly cipher: readonly string[];
  readonly mac: readonly string[];
  readonly compress: readonly string[];
  readonly lang: readonly string[];
}

/** What ssh2 asks of a server's host key. */
export interface HostSigner {
  readonly type: string;
  getPublicSSH(): Buffer;
  /** @returns the value within the signature blob, as RFC 4253 section 6.6 has it */
  sign(data: Buffer): Buffer;
}

export interface ProtocolConfig {
  readonly server: boolean;
  readonly ident: string;
  readonly offer: AlgorithmOffer;
  /** Of a server: by algorithm name. */
  readonly hostKeys?: Readonly<Record<string, HostSigner>>;
  /** Of a client: without one ssh2 accepts any host. */
  readonly hostVerifier?: (hostKey: Buffer) => boolean;
  onWrite(data: Buffer): void;
  /** After this the protocol is dead. */
  onError(error: Error): void;
  onHandshakeComplete(): void;
  readonly messageHandlers: {
    /** Only before the first key exchange is over. */
    DISCONNECT(protocol: unknown, reason: number, description: string): void;
  };
}

/** A returned number ends the parsing of the chunk at hand. */
type PayloadHandler = (payload: Buffer) => number | undefined;

/** One connection's transport. */
export interface Protocol {
  start(): void;
  parse(chunk: Buffer, from: number, to: number): void;
  rekey(): void;
  cleanup(): void;
  /** Gets each decrypted payload outside of a key exchange. */
  _onPayload: PayloadHandler;
  /** Ours, while a key exchange runs. */
  readonly _kexinit: Buffer | undefined;
  readonly _kex: KeyExchange | undefined;
  /** What waits for the key exchange to end. */
  readonly _queue: readonly Buffer[] | undefined;
  readonly _decipher: { readonly inSeqno: number } | undefined;
  readonly _packetRW: { readonly write: PacketWriter };
}

export interface KeyExchange {
  readonly sessionID: Buffer | undefined;
  /** Whether ssh2 sends its own EXT_INFO (whose list lacks a comma) after the first key exchange. */
  remoteExtInfoEnabled: boolean;
  readonly negotiated: {
    /** Becomes the signature's algorithm, where a certificate was negotiated. */
    serverHostKey: string;
  };
}

interface PacketWriter {
  readonly allocStart: number;
  readonly allocStartKEX: number;
  alloc(size: number, force?: boolean): Buffer;
  finalize(packet: Buffer, force?: boolean): Buffer;
}

type SendPacket = (protocol: Protocol, packet: Buffer, bypass?: boolean) => boolean;
type ProtocolClass = new (config: ProtocolConfig) => Protocol;
type ParseKey = (data: Buffer, type: string) => unknown;

const { ProtocolClass, sendPacket } = load();

/** @throws Error when ssh2 is not what this file knows */
export function createProtocol(config: ProtocolConfig): Protocol {
  if (config.server !== (config.hostVerifier === undefined)) {
    throw new Error('a client, and only a client, has a host verifier');
  }
  const protocol = new ProtocolClass(config);
  expect(isFunction(protocol.start) && isFunction(protocol._onPayload), 'Protocol instance');
  expect(isFunction(protocol._packetRW.write.alloc), '_packetRW.write.alloc');
  expect(isFunction(protocol._packetRW.write.finalize), '_packetRW.write.finalize');
  expect(protocol._packetRW.write.allocStart === 5, '_packetRW.write.allocStart');
  expect('_kexinit' in protocol && '_kex' in protocol && '_queue' in protocol, '_kexinit');
  return protocol;
}

/** Sends a payload of two parts, or queues it while a key exchange runs. */
export function sendPayload(protocol: Protocol, head: Uint8Array, body?: Uint8Array): void {
  const { write } = protocol._packetRW;
  const packet = write.alloc(head.length + (body?.length ?? 0));
  packet.set(head, write.allocStart);
  if (body !== undefined) packet.set(body, write.allocStart + head.length);
  sendPacket(protocol, write.finalize(packet));
}

/** Sends a payload even while a key exchange runs: for a disconnection only. */
export function sendUrgently(protocol: Protocol, payload: Uint8Array): void {
  const { write } = protocol._packetRW;
  const packet = write.alloc(payload.length, true);
  packet.set(payload, write.allocStartKEX);
  sendPacket(protocol, write.finalize(packet, true), true);
}

/** Of the first key exchange; it names the connection in what a client signs. */
export function sessionId(protocol: Protocol): Buffer {
  const id = protocol._kex?.sessionID;
  if (!Buffer.isBuffer(id) || id.length !== 32) throw new Error('ssh2: no session ID');
  return id;
}

function load(): { ProtocolClass: ProtocolClass; sendPacket: SendPacket } {
  const require = createRequire(import.meta.url);
  const version = property(require('ssh2/package.json'), 'version');
  expect(version === VERSION, `version ${String(version)} is not ${VERSION}`);
  acceptHostCertificates(require);
  const { CIPHER_INFO: ciphers, MAC_INFO: macs, init } = exports(require, 'crypto');
  expect(isObject(ciphers) && 'aes128-gcm@openssh.com' in ciphers, 'CIPHER_INFO');
  expect(isObject(macs) && 'hmac-sha2-256-etm@openssh.com' in macs, 'MAC_INFO');
  // It is for a cipher that we do not offer; where it fails, it must not end the process.
  expect(init instanceof Promise, 'crypto.init');
  if (init instanceof Promise) init.catch(() => undefined);
  const { sendPacket } = exports(require, 'utils');
  const ProtocolClass: unknown = require('ssh2/lib/protocol/Protocol.js');
  if (!isSendPacket(sendPacket)) throw unexpected('utils.sendPacket');
  if (!isProtocolClass(ProtocolClass)) throw unexpected('Protocol');
  return { ProtocolClass, sendPacket };
}

/**
 * ssh2's key exchange knows no certificates: it asks parseDERKey, a copy of which it takes when it loads,
 * for the host's key. For a certificate we give it the key within. Whether the certificate is good is
 * for the verifier to say, which runs before.
 */
function acceptHostCertificates(require: NodeJS.Require): void {
  const keyParser = exports(require, 'keyParser');
  const { parseDERKey } = keyParser;
  if (!isParseKey(parseDERKey)) throw unexpected('keyParser.parseDERKey');
  if (PATCHED in parseDERKey) return;
  const isTooLate = Object.keys(require.cache).some((path) =>
    /ssh2.lib.protocol.kex\.js$/.test(path),
  );
  expect(!isTooLate, 'its key exchange was loaded before this file');
  const parse = (data: Buffer, type: string) =>
    type.endsWith(CERTIFICATE_SUFFIX) ? certificateKey(data, type) : parseDERKey(data, type);
  keyParser.parseDERKey = Object.assign(parse, { [PATCHED]: true });
}

/** ssh2 wants an error returned. */
function certificateKey(data: Buffer, type: string): unknown {
  try {
    const { key, keyType } = parseSshCertificate(new SshWriter().string(type).raw(data).finish());
    return { type: keyType, verify: verifier(key, DIGESTS[keyType]) };
  } catch (error) {
    return error instanceof Error ? error : new Error('certificate unreadable');
  }
}

function verifier(key: KeyObject, digest: string | null) {
  return (data: Buffer, signature: Buffer): boolean => verify(digest, data, key, signature);
}

function exports(require: NodeJS.Require, file: string): Record<string, unknown> {
  const found: unknown = require(`ssh2/lib/protocol/${file}.js`);
  if (!isObject(found)) throw unexpected(file);
  return found;
}

function isProtocolClass(value: unknown): value is ProtocolClass {
  if (!isFunction(value)) return false;
  const methods = ['parse', 'rekey', 'cleanup', 'disconnect'];
  return methods.every((name) => isFunction(property(property(value, 'prototype'), name)));
}

function isSendPacket(value: unknown): value is SendPacket {
  return isFunction(value) && value.length === 3;
}

function isParseKey(value: unknown): value is ParseKey {
  return isFunction(value) && value.length === 2;
}

function isFunction(value: unknown): value is (...args: unknown[]) => unknown {
  return typeof value === 'function';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function property(value: unknown, name: string): unknown {
  return isObject(value) || isFunction(value) ? Reflect.get(value, name) : undefined;
}

function expect(isAsExpected: boolean, what: string): void {
  if (!isAsExpected) throw unexpected(what);
}

function unexpected(what: string): Error {
  return new Error(`ssh2 is not the one that this gateway was made with: ${what}`);
}
