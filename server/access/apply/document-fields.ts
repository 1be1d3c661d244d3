/** Fields that more than one kind of document has. */
import { isIP } from 'node:net';
import * as v from 'valibot';
import { SpiffeId } from '../../../identity/spiffe-id.ts';
import { durationSeconds } from '../../../runtime/config.ts';

const A_YEAR_SECONDS = 365 * 24 * 3600;

/** Of a resource. */
export const resourceName = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'a name: 1 to 63 of a-z 0-9 -, not beginning with -'),
);

/** For people: shown, and kept in records. */
export const sentence = v.pipe(
  v.string(),
  // Shown on terminals and kept in records: one line.
  v.regex(/^[^\p{Cc}\p{Zl}\p{Zp}]{1,200}$/u, 'one line of 1 to 200 characters'),
);

const HOST_NAME = /^(?!.*[.]{2})[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?$/;

/** Whether a text is a host name or an IP address. */
export function isHost(text: string): boolean {
  return isIP(text) !== 0 || HOST_NAME.test(text);
}

const RFC_3339 = /^(\d{4})-(\d{2})-(\d{2})T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/;

/** Date.parse takes the 30th of February for the 2nd of March. */
function isInstant(text: string): boolean {
  const [, year, month, day] = (RFC_3339.exec(text) ?? []).map(Number);
  if (year === undefined || month === undefined || day === undefined) return false;
  const lastDay = new Date(Date.UTC(year, month, 0)).getUTCDate();
  return day <= lastDay && !Number.isNaN(Date.parse(text));
}

/** A point in time with its zone. */
export const instant = v.pipe(
  v.string(),
  v.check(isInstant, 'a time with its zone, e.g. 2027-03-31T00:00:00Z'),
  v.transform((text) => new Date(text)),
);

const spiffeId = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    try {
      return SpiffeId.parse(dataset.value);
    } catch {
      addIssue({ message: 'a SPIFFE ID, e.g. spiffe://example.org/reporting' });
      return NEVER;
    }
  }),
);

/** Keys that a record schema drops without a word: what is dropped would not be enforced. */
export const HIDDEN_KEYS = ['__proto__', 'prototype', 'constructor'];

/** Checks the keys of a map before its values, each under its own path. */
export function keysBy(problem: (key: string) => string | undefined) {
  return v.rawCheck<unknown>(({ dataset, addIssue }) => {
    const input = dataset.value;
    if (typeof input !== 'object' || input === null) return;
    for (const [key, value] of Object.entries(input)) {
      const message = problem(key);
      if (message === undefined) continue;
      addIssue({
        message,
        input: key,
        path: [{ type: 'unknown', origin: 'value', input, key, value }],
      });
    }
  });
}

/** What every Backend document has, but its type. */
export const backendFields = {
  kind: v.literal('Backend'),
  name: resourceName,
  environment: sentence,
  on_stale: v.optional(v.picklist(['strict', 'standard'], 'strict or standard'), 'standard'),
};

/** What every Grant document has, but its rights. */
export const grantFields = {
  kind: v.literal('Grant'),
  name: resourceName,
  identity: spiffeId,
  backend: resourceName,
  owner: sentence,
  purpose: sentence,
  expires_at: instant,
};

/** What every grant says of a session. */
export const sessionFields = {
  maximum: durationSeconds(A_YEAR_SECONDS),
  renewable: v.optional(v.boolean(), false),
};
