import type { DescMessage, Message, MessageShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';

/**
 * A shallow copy in which every field that the mask does not name is empty; without a mask the
 * message itself. Mask messages have a boolean field of the same name for each field, or oneof.
 * @param always fields that no mask takes away
 */
export function masked<S extends DescMessage>(
  schema: S,
  message: MessageShape<S>,
  mask: Message | undefined,
  always: readonly string[],
): MessageShape<S> {
  if (mask === undefined) return message;
  const chosen = mask as unknown as Readonly<Record<string, unknown>>;
  const copy = create(schema) as Record<string, unknown> & MessageShape<S>;
  const from = message as Readonly<Record<string, unknown>>;
  for (const { localName } of schema.members) {
    if (chosen[localName] === true || always.includes(localName))
      Object.assign(copy, { [localName]: from[localName] });
  }
  return copy;
}
