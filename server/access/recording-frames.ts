import { Fault } from '../../runtime/fault.ts';
import { readFrames } from '../../runtime/frame-file.ts';

/** The largest that a gateway writes: a segment. */
const MAXIMUM_FRAME_BYTES = 8 * 1024 * 1024;
const BROKEN = new Uint8Array();

/**
 * The frames of record files whose bytes come in pieces. One that is not whole at the end is left out, as
 * when a file is read; at a damaged one an empty frame, which no record has, takes the place of the rest.
 * @param chunks untrusted; the caller bounds their sum
 */
export async function* recordingFrames(
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  let held: Uint8Array = new Uint8Array();
  for await (const chunk of chunks) {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    const wholeBytes = yield* wholeFrames(held);
    if (wholeBytes === undefined) return;
    held = held.subarray(wholeBytes);
  }
}

/** Returns how many bytes were whole frames, undefined if what follows cannot become one. */
function* wholeFrames(bytes: Uint8Array): Generator<Uint8Array, number | undefined> {
  try {
    const end = yield* readFrames(bytes, { maximumFrameBytes: MAXIMUM_FRAME_BYTES });
    if (end.tornBytes <= 2 * MAXIMUM_FRAME_BYTES) return end.wholeBytes;
  } catch (error) {
    if (!(error instanceof Fault && error.code === 'STATE_UNUSABLE')) throw error;
  }
  yield BROKEN;
  return undefined;
}
