/** What is taken from a server's answers; all else in them is left aside. */
import * as v from 'valibot';

const LONGEST_TEXT = 4096;
const LONGEST_SECONDS = 10 * 365 * 24 * 3600;

const text = v.pipe(v.string(), v.minLength(1), v.maxLength(LONGEST_TEXT));
const seconds = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(LONGEST_SECONDS));

/** PostgreSQL cuts longer names, and the name that is left is another one. */
const username = v.pipe(
  v.string(),
  v.check((name) => name !== '' && !name.includes('\0') && Buffer.byteLength(name) <= 63),
);
/** What the protocol of PostgreSQL can say. */
const password = v.pipe(
  text,
  v.check((value) => !value.includes('\0')),
);

const authAnswer = v.object({
  auth: v.object({ client_token: text, lease_duration: seconds, renewable: v.boolean() }),
});

const lookupAnswer = v.object({ data: v.object({ ttl: seconds, renewable: v.boolean() }) });

const kvAnswer = v.object({
  data: v.object({ data: v.record(v.string(), v.unknown()) }),
});

const credsAnswer = v.object({
  lease_id: text,
  lease_duration: seconds,
  renewable: v.boolean(),
  data: v.object({ username, password }),
});

const staticAnswer = v.object({
  data: v.object({ username, password, ttl: v.optional(seconds, 0) }),
});

const renewalAnswer = v.object({ lease_duration: seconds, renewable: v.boolean() });

function reader<S extends v.GenericSchema>(what: string, schema: S) {
  return (answer: unknown): v.InferOutput<S> => {
    const result = v.safeParse(schema, answer);
    if (result.success) return result.output;
    // Paths of the documented fields, never what stands there.
    const paths = result.issues.map((issue) => v.getDotPath(issue) ?? 'the whole');
    throw new Error(
      `the answer to ${what} is not as documented: ${[...new Set(paths)].join(', ')}`,
    );
  };
}

export const readAuth = reader('a login', authAnswer);
export const readLookup = reader('auth/token/lookup-self', lookupAnswer);
export const readKv = reader('a read of a key-value secret', kvAnswer);
export const readCreds = reader('a request for credentials', credsAnswer);
export const readStaticCreds = reader('a read of static credentials', staticAnswer);
export const readRenewal = reader('sys/leases/renew', renewalAnswer);
