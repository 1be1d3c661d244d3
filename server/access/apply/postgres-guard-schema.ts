/** What a PostgreSQL backend's document says of who enforces, and of what is looked for in results. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import * as v from 'valibot';
import {
  DetectorAction,
  Enforce,
  EnforceExceptionSchema,
  type PostgresBackendSchema,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { compilePattern, PatternError } from '../../../runtime/byte-pattern.ts';
import { instant, resourceName, sentence } from './document-fields.ts';

const MOST_PATTERNS = 50;
const ACTIONS = { mask: DetectorAction.MASK, alert: DetectorAction.ALERT } as const;
const ENFORCE = { database: Enforce.UNSPECIFIED, gateway: Enforce.GATEWAY } as const;

const action = v.picklist(['mask', 'alert'], 'mask or alert');

const pattern = v.pipe(
  v.string(),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    try {
      compilePattern(dataset.value);
    } catch (error) {
      if (!(error instanceof PatternError)) throw error;
      addIssue({ message: `a pattern of characters, classes and repeats: ${error.message}` });
    }
  }),
);

export const postgresGuardFields = {
  enforce: v.optional(v.picklist(['database', 'gateway'], 'database or gateway'), 'database'),
  exception: v.optional(v.strictObject({ owner: sentence, reason: sentence, expires_at: instant })),
  detectors: v.optional(
    v.strictObject({
      card: v.optional(action),
      ssn: v.optional(action),
      email: v.optional(action),
      'api-key': v.optional(action),
      jwt: v.optional(action),
      'private-key': v.optional(action),
    }),
    {},
  ),
  patterns: v.optional(
    v.pipe(
      v.array(v.strictObject({ name: resourceName, pattern, action })),
      v.maxLength(MOST_PATTERNS, `at most ${MOST_PATTERNS} patterns`),
      v.check(
        (all) => new Set(all.map(({ name }) => name)).size === all.length,
        'patterns of different names',
      ),
    ),
    [],
  ),
};

const guardSchema = v.strictObject(postgresGuardFields);

type Guard = v.InferOutput<typeof guardSchema>;

/** Whether the exception stands where it must, and there alone. */
export function hasItsException({
  enforce,
  exception,
}: Pick<Guard, 'enforce' | 'exception'>): boolean {
  return (enforce === 'gateway') === (exception !== undefined);
}

export const EXCEPTION_MESSAGE =
  'an exception with owner, reason and expires_at where enforce is gateway, and there alone';

/** The fields of the backend's message. */
export function postgresGuard({
  enforce,
  exception,
  detectors,
  patterns,
}: Guard): Pick<
  MessageInitShape<typeof PostgresBackendSchema>,
  'enforce' | 'exception' | 'detectors' | 'patterns'
> {
  const found = Object.entries(detectors).flatMap(([kind, named]) =>
    named === undefined ? [] : [{ kind, action: ACTIONS[named] }],
  );
  return {
    enforce: ENFORCE[enforce],
    ...(exception && {
      exception: create(EnforceExceptionSchema, {
        owner: exception.owner,
        reason: exception.reason,
        expiresAt: timestampFromDate(exception.expires_at),
      }),
    }),
    // Sorted, so that another order of the same lines is no change.
    detectors: found.sort((one, other) => (one.kind < other.kind ? -1 : 1)),
    patterns: patterns.map((one) => ({ ...one, action: ACTIONS[one.action] })),
  };
}
