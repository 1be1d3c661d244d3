import type { Timestamp } from '@bufbuild/protobuf/wkt';
import { timestampDate } from '@bufbuild/protobuf/wkt';

/** ISO 8601 in UTC, or '' where there is no instant. */
export function isoTime(at: Timestamp | undefined): string {
  return at === undefined ? '' : timestampDate(at).toISOString();
}

/** ISO 8601 of Unix seconds; '' for 0. */
export function isoSeconds(seconds: bigint): string {
  return seconds === 0n ? '' : new Date(Number(seconds) * 1000).toISOString();
}
