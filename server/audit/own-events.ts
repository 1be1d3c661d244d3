import type { MessageInitShape } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { EventSchema } from '../../proto/gen/writ/audit/v1/audit_pb.ts';

type EventMessageInit = MessageInitShape<typeof EventSchema>;

/** An event as its author gives it: position, time and writer are the log's to set. */
export type EventInit = EventMessageInit & {
  readonly actor?:
    | (NonNullable<EventMessageInit['actor']> & {
        /** Of the call that the event is of; none for what the server does by itself. */
        readonly requestId?: string | undefined;
      })
    | undefined;
};

type Actor = NonNullable<EventInit['actor']>;
type Attributes = NonNullable<EventInit['attributes']>;

/** Which writer's events, and the time that they all have. */
export interface OwnEventsOptions {
  readonly writer: string;
  readonly at: Date;
}

/** Where an event stands in the log, and in its writer's own count. */
export interface Position {
  readonly seq: bigint;
  readonly writerSeq: bigint;
}

/**
 * Encodes events that are appended together as `writ.audit.v1.Event`. A thousand have time and actor in
 * common, and most share their attributes: each of these is encoded once.
 */
export class OwnEvents {
  readonly #writer = new BinaryWriter();
  /** Fields 2 and 3. */
  readonly #stamp: Uint8Array;
  #actor: Actor | undefined;
  #actorField: Uint8Array = NOTHING;
  readonly #attributeFields = new Map<Attributes, Uint8Array>();

  constructor({ writer, at }: OwnEventsOptions) {
    const { seconds, nanos } = timestampFromDate(at);
    const out = this.#writer;
    out.tag(2, WireType.LengthDelimited).fork();
    if (seconds !== 0n) out.tag(1, WireType.Varint).int64(seconds);
    if (nanos !== 0) out.tag(2, WireType.Varint).int32(nanos);
    out.join();
    text(out, 3, writer);
    this.#stamp = out.finish();
  }

  /** @returns `prefix`, then the event's bytes */
  encode(prefix: number, event: EventInit, { seq, writerSeq }: Position): Uint8Array {
    const actor = this.#encodedActor(event.actor);
    const attributes = this.#encodedAttributes(event.attributes);
    const out = this.#writer.raw(Uint8Array.of(prefix));
    if (seq !== 0n) out.tag(1, WireType.Varint).uint64(seq);
    out.raw(this.#stamp);
    if (writerSeq !== 0n) out.tag(4, WireType.Varint).uint64(writerSeq);
    text(out, 5, event.type);
    if (event.outcome) out.tag(6, WireType.Varint).int32(event.outcome);
    out.raw(actor);
    text(out, 8, event.sessionId);
    text(out, 9, event.grant);
    text(out, 10, event.backend);
    text(out, 11, event.spiffeId);
    text(out, 12, event.svidSerial);
    text(out, 13, event.agentId);
    text(out, 14, event.entryId);
    text(out, 15, event.reason);
    out.raw(attributes);
    const requestId = event.actor?.requestId;
    if (requestId !== undefined) attribute(out, 'request_id', requestId);
    return out.finish();
  }

  #encodedActor(actor: Actor | undefined): Uint8Array {
    if (actor === undefined) return NOTHING;
    if (actor === this.#actor) return this.#actorField;
    const out = this.#writer;
    out.tag(7, WireType.LengthDelimited).fork();
    text(out, 1, actor.kind);
    text(out, 2, actor.spiffeId);
    text(out, 3, actor.address);
    if (actor.pid) out.tag(4, WireType.Varint).int32(actor.pid);
    if (actor.uid) out.tag(5, WireType.Varint).uint32(actor.uid);
    text(out, 6, actor.executable);
    out.join();
    this.#actor = actor;
    this.#actorField = out.finish();
    return this.#actorField;
  }

  #encodedAttributes(attributes: Attributes | undefined): Uint8Array {
    if (attributes === undefined) return NOTHING;
    const known = this.#attributeFields.get(attributes);
    if (known !== undefined) return known;
    const out = this.#writer;
    for (const name in attributes) attribute(out, name, attributes[name] ?? '');
    const fields = out.finish();
    this.#attributeFields.set(attributes, fields);
    return fields;
  }
}

const NOTHING = new Uint8Array();

function text(out: BinaryWriter, field: number, value: string | undefined): void {
  if (value !== undefined && value !== '') out.tag(field, WireType.LengthDelimited).string(value);
}

function attribute(out: BinaryWriter, name: string, value: string): void {
  out.tag(16, WireType.LengthDelimited).fork();
  out.tag(1, WireType.LengthDelimited).string(name);
  out.tag(2, WireType.LengthDelimited).string(value);
  out.join();
}
