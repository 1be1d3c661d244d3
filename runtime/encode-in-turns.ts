import { setImmediate as breathe } from 'node:timers/promises';

/** Items of a list that are encoded before others get a turn: a few milliseconds. */
const ITEMS_AT_ONCE = 500;

/**
 * Encodes a message whose list may be long, a piece of the list in each turn of the event loop. The bytes
 * are the pieces' one after the other: the lists of messages that follow each other are read as one.
 * Source: protobuf.dev/programming-guides/encoding, "last one wins" and repeated elements.
 * @param message as `encode` takes it; not to be changed meanwhile
 */
export async function encodeInTurns(
  message: object,
  encode: (message: object) => Buffer,
): Promise<Buffer> {
  const long = Object.entries(message).find(isLong);
  if (long === undefined) return encode(message);
  const [name, items] = long;
  const pieces = [encode({ ...message, [name]: [] })];
  for (let start = 0; start < items.length; start += ITEMS_AT_ONCE) {
    await breathe();
    pieces.push(encode({ [name]: items.slice(start, start + ITEMS_AT_ONCE) }));
  }
  return Buffer.concat(pieces);
}

function isLong(field: [string, unknown]): field is [string, unknown[]] {
  return Array.isArray(field[1]) && field[1].length > ITEMS_AT_ONCE;
}
