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

/**
 * JSON lines on stderr: one event a line, the message a constant sentence, data in snake_case fields.
 * @param destination where the lines go instead of stderr, for tests
 */
export function createLogger(
  options: { readonly process: 'server' | 'agent' | 'gateway' | 'up'; readonly level: string },
  destination: pino.DestinationStream = pino.destination({ fd: 2, sync: true }),
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
