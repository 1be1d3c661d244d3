/**
 * Encodes a record's events. Three of them stand on the way of every statement or piece of output, so
 * these are written field by field; protobuf-es, which looks each field up in its descriptor, takes several times as long. The
 * tests hold the bytes against its own.
 */
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import {
  type ChannelOutputSchema,
  type ParameterSchema,
  RecordedFrameSchema,
  type StatementResultSchema,
  type StatementSchema,
} from '../../proto/gen/writ/gateway/v1/recording_pb.ts';
import type { RecordedEventInit } from './recorder.ts';

/** One event with its place in the record. */
export interface IndexedEvent {
  readonly index: bigint;
  readonly at: Date;
  readonly event: RecordedEventInit;
}

/** A RecordedFrame that holds the event. */
export function encodeEvent({ index, at, event }: IndexedEvent): Uint8Array {
  if (event.case !== 'statement' && event.case !== 'result' && event.case !== 'channelOutput') {
    const value = { index, at: timestampFromDate(at), event };
    return toBinary(
      RecordedFrameSchema,
      create(RecordedFrameSchema, { frame: { case: 'event', value } }),
    );
  }
  const writer = new BinaryWriter();
  open(writer, 2);
  if (index !== 0n) writer.tag(1, WireType.Varint).uint64(index);
  timestamp(writer, at);
  if (event.case === 'statement') {
    open(writer, 4);
    statement(writer, event.value);
  } else if (event.case === 'result') {
    open(writer, 5);
    result(writer, event.value);
  } else {
    open(writer, 8);
    output(writer, event.value);
  }
  return writer.join().join().finish();
}

function timestamp(writer: BinaryWriter, at: Date): void {
  const milliseconds = at.getTime();
  const seconds = Math.floor(milliseconds / 1000);
  const nanos = (milliseconds - seconds * 1000) * 1_000_000;
  open(writer, 2);
  if (seconds !== 0) writer.tag(1, WireType.Varint).int64(seconds);
  if (nanos !== 0) writer.tag(2, WireType.Varint).int32(nanos);
  writer.join();
}

function statement(writer: BinaryWriter, value: MessageInitShape<typeof StatementSchema>): void {
  integer(writer, 1, value.number);
  text(writer, 2, value.fingerprint);
  text(writer, 3, value.text);
  text(writer, 4, value.class);
  for (const one of value.parameters ?? []) {
    open(writer, 5);
    parameter(writer, one);
    writer.join();
  }
  for (const table of value.tables ?? []) writer.tag(6, WireType.LengthDelimited).string(table);
  text(writer, 7, value.deniedBy);
  const hmac = value.textHmac;
  if (hmac !== undefined && hmac.length > 0) writer.tag(8, WireType.LengthDelimited).bytes(hmac);
}

function parameter(writer: BinaryWriter, value: MessageInitShape<typeof ParameterSchema>): void {
  if (value.position) writer.tag(1, WireType.Varint).uint32(value.position);
  text(writer, 2, value.target);
  const { content } = value;
  if (content?.case === 'value') writer.tag(3, WireType.LengthDelimited).string(content.value);
  if (content?.case === 'hmac') writer.tag(4, WireType.LengthDelimited).bytes(content.value);
}

function result(writer: BinaryWriter, value: MessageInitShape<typeof StatementResultSchema>): void {
  integer(writer, 1, value.number);
  text(writer, 2, value.commandTag);
  integer(writer, 3, value.rows);
  integer(writer, 4, value.durationMicroseconds);
  text(writer, 5, value.sqlstate);
  for (const column of value.maskedColumns ?? []) {
    writer.tag(6, WireType.LengthDelimited).string(column);
  }
}

function output(writer: BinaryWriter, value: MessageInitShape<typeof ChannelOutputSchema>): void {
  if (value.channel) writer.tag(1, WireType.Varint).uint32(value.channel);
  if (value.isStderr) writer.tag(2, WireType.Varint).bool(true);
  const { data } = value;
  if (data !== undefined && data.length > 0) writer.tag(3, WireType.LengthDelimited).bytes(data);
}

function open(writer: BinaryWriter, field: number): void {
  writer.tag(field, WireType.LengthDelimited).fork();
}

function integer(writer: BinaryWriter, field: number, value: bigint | undefined): void {
  if (value !== undefined && value !== 0n) writer.tag(field, WireType.Varint).uint64(value);
}

function text(writer: BinaryWriter, field: number, value: string | undefined): void {
  if (value !== undefined && value !== '') {
    writer.tag(field, WireType.LengthDelimited).string(value);
  }
}
