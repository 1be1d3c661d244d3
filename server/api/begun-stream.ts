/** A stream of requests whose first one has come. */
export interface BegunStream<T> extends AsyncDisposable {
  /** Undefined if the stream ended without any. */
  readonly first: T | undefined;
  /** All of them, the first one too; to be read once. */
  readonly requests: AsyncIterable<T>;
}

/**
 * Waits for the first request. Who has to wait for its turn is asked what it wants before that, for a
 * stream that says nothing is taken for an idle one and ended.
 */
export async function begunStream<T>(requests: AsyncIterable<T>): Promise<BegunStream<T>> {
  const input = requests[Symbol.asyncIterator]();
  const first = await input.next();
  async function* all() {
    for (let step = first; step.done !== true; step = await input.next()) yield step.value;
  }
  return {
    first: first.done === true ? undefined : first.value,
    requests: all(),
    async [Symbol.asyncDispose]() {
      await input.return?.();
    },
  };
}
