import { type Timestamp, timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { SignedSsh } from '../authority/ssh-authority.ts';

/** A certificate as every answer that gives one out carries it. */
export function certificateMessage({ certificate, notAfter }: SignedSsh): {
  certificate: Uint8Array;
  expiresAt: Timestamp;
} {
  return { certificate, expiresAt: timestampFromDate(notAfter) };
}
