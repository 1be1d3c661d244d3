import pg from 'pg';

/** The SQLSTATE of an error that the server answered with and that ended its statement alone. */
export function sqlstateOf(error: unknown): string | undefined {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof pg.DatabaseError && cause.severity === 'ERROR' ? cause.code : undefined;
}
