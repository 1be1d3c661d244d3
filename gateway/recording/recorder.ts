import type { MessageInitShape } from '@bufbuild/protobuf';
import type { RecordedEventSchema } from '../../proto/gen/writ/gateway/v1/recording_pb.ts';

/** One of RecordedEvent's cases, e.g. `{ case: 'statement', value: { number: 1n, ... } }`. */
export type RecordedEventInit = NonNullable<MessageInitShape<typeof RecordedEventSchema>['event']>;

/** A session's record as its protocol sees it: what is not written does not happen. */
export interface Recorder {
  /**
   * Hands one event to the operating system before it returns, so write it before its effect. A
   * statement's result alone may follow within 100 ms, with the next event if that is sooner.
   * @throws Fault RECORDING_UNWRITABLE, and the session ends
   */
  write(event: RecordedEventInit): void;

  /**
   * Makes all that is written survive a crash of the machine; before writes and ddl.
   * @throws Fault RECORDING_UNWRITABLE, and the session ends
   */
  sync(): void;
}
