import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { Identity } from '../proto/gen/writ/admin/v1/admin_pb.ts';
import { parseDuration } from '../runtime/duration.ts';
import { Fault } from '../runtime/fault.ts';
import { type Flags, textFlag } from './verb.ts';

/** What an identity record says but its SPIFFE ID. */
export type IdentityTemplate = Pick<
  Identity,
  'owner' | 'purpose' | 'environment' | 'kind' | 'expiresAt'
>;

/** The options of a verb that makes identity records. */
export const IDENTITY_OPTIONS = {
  owner: { type: 'string' },
  purpose: { type: 'string' },
  environment: { type: 'string' },
  kind: { type: 'string', default: 'service' },
  'expires-in': { type: 'string' },
} as const;

/** Of an identity. */
export const MAXIMUM_LIFE_SECONDS = 3650 * 24 * 60 * 60;
const NAMES = ['owner', 'purpose', 'environment', 'expires-in'] as const;

/**
 * The record that the flags describe; undefined if they say nothing of one (then the server's defaults
 * serve).
 * @throws Fault USAGE if they say a part of it
 */
export function identityFlags(flags: Flags): IdentityTemplate | undefined {
  if (NAMES.every((name) => textFlag(flags, name) === undefined)) return undefined;
  const seconds = parseDuration(needed(flags, 'expires-in'), '--expires-in', MAXIMUM_LIFE_SECONDS);
  return {
    owner: needed(flags, 'owner'),
    purpose: needed(flags, 'purpose'),
    environment: needed(flags, 'environment'),
    kind: needed(flags, 'kind'),
    expiresAt: timestampFromDate(new Date(Date.now() + seconds * 1000)),
  };
}

/** The value of an option that has to be given. @throws Fault USAGE */
export function needed(flags: Flags, name: string): string {
  const value = textFlag(flags, name);
  if (value === undefined || value === '') throw new Fault('USAGE', `--${name} is missing`);
  return value;
}
