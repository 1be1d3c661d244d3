/** A terminal's size as RFC 4254 section 6.7 gives it: characters, then pixels (0 where unknown). */
export interface WindowSize {
  readonly columns: number;
  readonly rows: number;
  readonly width: number;
  readonly height: number;
}

/** What a client asks a terminal to be. */
export interface PtyRequest extends WindowSize {
  /** Untrusted, at most 64 bytes. */
  readonly term: string;
  /** Encoded terminal modes (RFC 4254 section 8), passed on as they came; at most 1 KiB. */
  readonly modes: Uint8Array;
}

/** How a program ended; `undefined` where the channel closed without saying. */
export type ExitStatus =
  | { readonly code: number }
  | { readonly signal: string; readonly coreDumped: boolean; readonly message: string }
  | undefined;

/** What a session channel is asked to run; `command` is the command line, or the subsystem's name. */
export interface StartRequest {
  readonly kind: 'shell' | 'exec' | 'subsystem';
  /** Untrusted, at most 32 KiB. It may hold NUL, and U+FFFD where bytes were no UTF-8. */
  readonly command: string;
}
