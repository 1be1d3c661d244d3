import type { Recorder } from '../../../../recording/recorder.ts';

/** Of one session; what comes after is not kept. */
const MOST_BYTES = 64 * 1024 * 1024;
/** Of one event. */
const MOST_EVENT_BYTES = 1024 * 1024;

/** Keeps what a client gets, byte for byte, before it gets it. */
export class KeptRows {
  readonly #recorder: Recorder;
  #left = MOST_BYTES;

  constructor(recorder: Recorder) {
    this.#recorder = recorder;
  }

  /** @throws Fault RECORDING_UNWRITABLE */
  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && this.#left > 0; at += MOST_EVENT_BYTES) {
      const data = bytes.subarray(at, at + Math.min(MOST_EVENT_BYTES, this.#left));
      this.#left -= data.length;
      this.#recorder.write({ case: 'rows', value: { data, isLast: this.#left === 0 } });
    }
  }
}
