import type { SpiffeId } from '../../identity/spiffe-id.ts';
import type { VerifiedSvid } from '../../identity/verify.ts';
import type { Backend, Grant } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Recorder } from '../recording/recorder.ts';
import type { Budget } from './budget.ts';

/** Where a protocol asks for a session once it knows what its client wants. */
export interface SessionDesk {
  /**
   * Resolves with a session that the server has committed and whose recording has begun.
   * @throws Fault PERMISSION_DENIED, UNAVAILABLE, RESOURCE_EXHAUSTED, AUDIT_UNWRITABLE or
   * RECORDING_UNWRITABLE; its message is for the client, and nothing is open then
   */
  open(request: SessionRequest): Promise<Session>;
}

export interface SessionRequest {
  /** Or what the protocol has for it, as the name of a database; untrusted. */
  readonly backend: string;
  /** By which the client came, in the TLS handshake; untrusted. */
  readonly serverName?: string;
  /** The grant that the client named, untrusted; empty if it named none (threats S13). */
  readonly grant: string;
  /** The login that the client asks for, untrusted; undefined for a protocol without logins. */
  readonly login?: string;
  readonly peer: SessionPeer;
  /** `ip:port` of the client. */
  readonly address: string;
  /** What the client says of itself, e.g. `application_name`; untrusted, cut to what a record keeps. */
  readonly client: Readonly<Record<string, string>>;
}

/** Who a client is, and how it proved that: the server looks at the proof again (threats S2). */
export interface SessionPeer {
  readonly id: SpiffeId;
  /** Of its X509-SVID in lower-case hex, of its SSH certificate in decimal: as the ledger has it. */
  readonly serial: string;
  readonly notAfter: Date;
  readonly proof: SessionProof;
}

export type SessionProof =
  | {
      readonly case: 'x509';
      /** DER, leaf first, as presented. */
      readonly chain: readonly Uint8Array[];
    }
  | {
      readonly case: 'ssh';
      readonly certificate: Uint8Array;
      /** What the client signed (RFC 4252 7), from the session identifier on. */
      readonly signedData: Uint8Array;
      readonly signature: Uint8Array;
    };

/** The peer of a TLS handshake. */
export function svidPeer({ id, serial, notAfter, chain }: VerifiedSvid): SessionPeer {
  return { id, serial, notAfter, proof: { case: 'x509', chain } };
}

/** One client's use of one backend under one grant. Disposing it seals its record and tells the server. */
export interface Session extends AsyncDisposable {
  readonly id: string;
  readonly grant: Grant;
  readonly backend: Backend;
  readonly identity: SessionIdentity;
  readonly expiresAt: Date;

  /** Aborts when the session must end; `reason` is a Fault whose message is for the client. */
  readonly signal: AbortSignal;

  readonly recorder: Recorder;

  /** Kept by the protocol; told to the server at the end. */
  readonly counts: SessionCounts;

  /** What the grant still lets it do. */
  readonly budget: Budget;

  /** Keys the HMACs of what a record must not show (threats S9). Never leaves this process. */
  readonly hmacKey: Uint8Array;

  /** Ends the session and aborts `signal`; the first reason is the one that is kept. */
  end(reason: string): void;
}

export interface SessionIdentity {
  readonly spiffeId: string;
  readonly owner: string;
  readonly purpose: string;
  readonly environment: string;
  readonly entryId: string;
  readonly agentId: string;
  /** As in `SessionPeer`. */
  readonly serial: string;
}

export interface SessionCounts {
  bytesUp: number;
  bytesDown: number;
  rows: number;
  statements: number;
}
