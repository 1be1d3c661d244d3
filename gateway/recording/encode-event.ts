/**
 * Encodes a record's events. Three of them stand on the way of every statement or piece of output, so
 * these are written field by field; protobuf-es, which looks each field up in its descriptor, takes
 * many times as long. The tests hold the bytes against its own.
 */
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import {
  type ChannelOutputSchema,
  type ParameterSchema,
  RecordedFrameSchema,
  type StatementResultSchema,
  type StatementSchema,
} from '../../proto/gen/writ/gateway/v1/recording_pb.ts';
import { ProtoWriter } from './proto-writer.ts';
import type { RecordedEventInit } from './recorder.ts';

/** One event with its place in the record. */
export interface IndexedEvent {
  readonly index: bigint;
  readonly at: Date;
  readonly event: RecordedEventInit;
}

const writer = new ProtoWriter();

/** A RecordedFrame that holds the event. */
export function encodeEvent({ index, at, event }: IndexedEvent): Uint8Array {
  if (event.case !== 'statement' && event.case !== 'result' && event.case !== 'channelOutput') {
    const value = { index, at: timestampFromDate(at), event };
    return toBinary(
      RecordedFrameSchema,
      create(RecordedFrameSchema, { frame: { case: 'event', value } }),
    );
  }
  // What a value that could not be written left behind must not stand in the next event.
  writer.clear();
  writer.open(2);
  writer.integer(1, index);
  timestamp(at);
  if (event.case === 'statement') statement(event.value);
  else if (event.case === 'result') result(event.value);
  else output(event.value);
  writer.close();
  return writer.bytes();
}

function timestamp(at: Date): void {
  const milliseconds = at.getTime();
  const seconds = Math.floor(milliseconds / 1000);
  writer.open(2);
  writer.integer(1, seconds);
  writer.integer(2, (milliseconds - seconds * 1000) * 1_000_000);
  writer.close();
}

function statement(value: MessageInitShape<typeof StatementSchema>): void {
  writer.open(4);
  writer.integer(1, value.number);
  writer.text(2, value.fingerprint);
  writer.text(3, value.text);
  writer.text(4, value.class);
  for (const one of value.parameters ?? []) parameter(one);
  for (const table of value.tables ?? []) writer.item(6, table);
  writer.text(7, value.deniedBy);
  if (value.textHmac !== undefined && value.textHmac.length > 0) writer.item(8, value.textHmac);
  writer.close();
}

function parameter({ position, target, content }: MessageInitShape<typeof ParameterSchema>): void {
  writer.open(5);
  writer.integer(1, position);
  writer.text(2, target);
  if (content?.case === 'value') writer.item(3, content.value ?? '');
  if (content?.case === 'hmac') writer.item(4, content.value ?? '');
  writer.close();
}

function result(value: MessageInitShape<typeof StatementResultSchema>): void {
  writer.open(5);
  writer.integer(1, value.number);
  writer.text(2, value.commandTag);
  writer.integer(3, value.rows);
  writer.integer(4, value.durationMicroseconds);
  writer.text(5, value.sqlstate);
  for (const column of value.maskedColumns ?? []) writer.item(6, column);
  writer.close();
}

function output({ channel, isStderr, data }: MessageInitShape<typeof ChannelOutputSchema>): void {
  writer.open(8);
  writer.integer(1, channel);
  writer.integer(2, isStderr === true ? 1 : 0);
  if (data !== undefined && data.length > 0) writer.item(3, data);
  writer.close();
}
