/**
 * Every code that leaves a process: on the wire, in logs, in `docs/errors.md`. Never reused. The exit
 * status is 2 where the person who typed or configured it can mend it, 1 for all else. `says` is the
 * sentence that the generated page gives for it.
 */
export const FAULTS = {
  ALREADY_EXISTS: {
    grpc: 'ALREADY_EXISTS',
    exit: 1,
    says: 'the thing to be made is there already',
  },
  ATTESTATION_DENIED: {
    grpc: 'PERMISSION_DENIED',
    exit: 1,
    says: 'the evidence does not prove the node or workload',
  },
  AUDIT_UNWRITABLE: {
    grpc: 'UNAVAILABLE',
    exit: 1,
    says: 'the event could not be written, so the act did not happen',
  },
  BACKEND_FAILED: {
    grpc: 'UNAVAILABLE',
    exit: 1,
    says: 'the backend refused the gateway or cannot be reached',
  },
  CONFIG_INVALID: {
    grpc: 'FAILED_PRECONDITION',
    exit: 2,
    says: 'a configuration or applied file is wrong; file, line and field are named',
  },
  FAILED_PRECONDITION: {
    grpc: 'FAILED_PRECONDITION',
    exit: 1,
    says: 'the state of the thing does not allow the request',
  },
  INTERNAL: {
    grpc: 'INTERNAL',
    exit: 1,
    says: 'a defect in Writ; the log of the process that answered has the cause',
  },
  INVALID_ARGUMENT: {
    grpc: 'INVALID_ARGUMENT',
    exit: 2,
    says: 'a field of the request is wrong; it is named',
  },
  JOIN_TOKEN_INVALID: {
    grpc: 'INVALID_ARGUMENT',
    exit: 1,
    says: 'the join token is unknown, spent or expired',
  },
  JWT_SVID_INVALID: { grpc: 'INVALID_ARGUMENT', exit: 1, says: 'the JWT-SVID does not verify' },
  NOT_FOUND: { grpc: 'NOT_FOUND', exit: 1, says: 'no such thing' },
  PERMISSION_DENIED: { grpc: 'PERMISSION_DENIED', exit: 1, says: 'the caller may not do this' },
  PROTOCOL_VIOLATION: {
    grpc: 'INVALID_ARGUMENT',
    exit: 1,
    says: 'bytes on the wire that the protocol does not allow at that point',
  },
  RECORDING_UNWRITABLE: {
    grpc: 'UNAVAILABLE',
    exit: 1,
    says: 'the record could not be written, so the act did not happen',
  },
  RESOURCE_EXHAUSTED: {
    grpc: 'RESOURCE_EXHAUSTED',
    exit: 1,
    says: 'a documented limit is reached',
  },
  SPIFFE_ID_INVALID: {
    grpc: 'INVALID_ARGUMENT',
    exit: 2,
    says: 'text that is no SPIFFE ID or trust domain name',
  },
  SSH_INVALID: {
    grpc: 'INVALID_ARGUMENT',
    exit: 1,
    says: 'an SSH key, certificate, signature or message does not parse or does not verify',
  },
  STATE_UNUSABLE: {
    grpc: 'FAILED_PRECONDITION',
    exit: 1,
    says: 'a state directory, port or clock that the process cannot run with',
  },
  STORE_UNAVAILABLE: {
    grpc: 'UNAVAILABLE',
    exit: 1,
    says: 'the store cannot be read or written now',
  },
  SVID_INVALID: { grpc: 'UNAUTHENTICATED', exit: 1, says: 'the X509-SVID does not verify' },
  UNAUTHENTICATED: {
    grpc: 'UNAUTHENTICATED',
    exit: 1,
    says: 'the call needs an identity and came without one',
  },
  UNAVAILABLE: {
    grpc: 'UNAVAILABLE',
    exit: 1,
    says: 'not ready, or cut off from what it needs; try again',
  },
  UNIMPLEMENTED: { grpc: 'UNIMPLEMENTED', exit: 1, says: 'this server does not offer the call' },
  USAGE: { grpc: 'INVALID_ARGUMENT', exit: 2, says: 'the command line is wrong' },
} as const;

export type FaultCode = keyof typeof FAULTS;

/** A failure a caller can act on. Its message may reach the peer, so no secret; `cause` never does. */
export class Fault extends Error {
  override readonly name = 'Fault';
  readonly code: FaultCode;

  /** Encoded `google.rpc.Status` details for the peer, e.g. what a spire-agent acts on; no secret. */
  readonly details: Uint8Array | undefined;

  constructor(
    code: FaultCode,
    message: string,
    options?: { cause?: unknown; details?: Uint8Array },
  ) {
    super(message, options);
    this.code = code;
    this.details = options?.details;
  }

  /** For the edges of a process: what is no Fault is a bug, and the peer learns only that. */
  static from(reason: unknown): Fault {
    return reason instanceof Fault
      ? reason
      : new Fault('INTERNAL', 'internal error', { cause: reason });
  }
}
