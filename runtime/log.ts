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
/** Of lines that wait for a disk that is full; more are dropped. */
const MAXIMUM_WAITING_BYTES = 1024 * 1024;

/**
 * JSON lines on stderr: one event a line, the message a constant sentence, data in snake_case fields.
 * @param destination where the lines go instead of stderr, for tests
 */
export function createLogger(
  options: { readonly process: 'server' | 'agent' | 'gateway' | 'up'; readonly level: string },
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
 * An open file for log lines. One that cannot be written, on a full disk say, costs lines and no more;
 * once it can be again, what waited is written.
 */
export function logDestination(fd: number): pino.DestinationStream {
  const destination = pino.destination({ fd, sync: true, maxLength: MAXIMUM_WAITING_BYTES });
  destination.on('error', () => undefined);
  // When so many wait that one is dropped, no line is tried any more but by this.
  destination.on('drop', () => {
    try {
      destination.flushSync();
    } catch {
      // Still full.
    }
  });
  return destination;
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
