import { writeSync } from 'node:fs';
import pino from 'pino';

export type Logger = pino.Logger;

/** Fields that are never written, at the top of a line or one level down, whoever passes them. */
const SECRET_FIELDS = [
  'authorization',
  'cookie',
  'evidence',
  'join_string',
  'jwt',
  'key',
  'parameters',
  'password',
  'private_key',
  'secret',
  'sql',
  'token',
] as const;

const DEEPEST_CAUSE = 4;
/** For a pipe whose reader is slow: a tenth of a second in all, then the line is given up. */
const PAUSE_MS = 10;
const MOST_PAUSES = 10;
const NEVER_NOTIFIED = new Int32Array(new SharedArrayBuffer(4));

/**
 * JSON lines on stderr: one event a line, the message a constant sentence, data in snake_case fields.
 * @param destination where the lines go instead of stderr, for tests
 */
export function createLogger(
  options: {
    readonly process: 'server' | 'agent' | 'gateway' | 'up' | 'exec';
    readonly level: string;
  },
  destination: pino.DestinationStream = logDestination(2),
): Logger {
  return pino(
    {
      level: options.level,
      base: { process: options.process, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: (reason: unknown) => describeError(reason) },
      redact: {
        paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]),
        censor: '[redacted]',
      },
    },
    destination,
  );
}

/**
 * An open file or pipe for log lines, written at once. One that cannot be written, on a full disk say,
 * costs those lines and no more: pino's own destination would end the process or fall silent for good.
 */
export function logDestination(fd: number): pino.DestinationStream {
  let isTorn = false;
  return {
    write(line) {
      const bytes = Buffer.from(isTorn ? `\n${line}` : line);
      const written = writeSome(fd, bytes);
      if (written > 0) isTorn = written < bytes.length;
    },
  };
}

/** @returns how many bytes were taken */
function writeSome(fd: number, bytes: Buffer): number {
  let written = 0;
  for (let pauses = 0; written < bytes.length; ) {
    try {
      written += writeSync(fd, bytes, written);
    } catch (error) {
      const isBusy = error instanceof Error && 'code' in error && error.code === 'EAGAIN';
      if (!isBusy || pauses === MOST_PAUSES) break;
      pauses += 1;
      Atomics.wait(NEVER_NOTIFIED, 0, 0, PAUSE_MS);
    }
  }
  return written;
}

/** Name, code, message, stack and causes, and no other property: a driver's error holds row values. */
function describeError(reason: unknown, depth = 0): unknown {
  if (!(reason instanceof Error)) return typeof reason === 'string' ? reason : typeof reason;
  const { name, message, stack, cause } = reason;
  const code = 'code' in reason && typeof reason.code === 'string' ? reason.code : undefined;
  return {
    name,
    code,
    message,
    stack,
    cause:
      cause === undefined || depth === DEEPEST_CAUSE ? undefined : describeError(cause, depth + 1),
  };
}
