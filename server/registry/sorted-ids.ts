/** A block is split in two beyond this. */
const MAXIMUM_BLOCK = 1024;

/**
 * Strings in order, each once: blocks of a bounded size, so that one more costs the same however many
 * there are.
 */
export class SortedIds {
  #blocks: string[][] = [[]];

  add(id: string): void {
    const at = this.#blockOf(id);
    const block = this.#blocks[at] ?? [];
    const rank = rankIn(block, id);
    if (block[rank] === id) return;
    block.splice(rank, 0, id);
    if (block.length <= MAXIMUM_BLOCK) return;
    this.#blocks.splice(at + 1, 0, block.splice(block.length >> 1));
  }

  delete(id: string): void {
    const at = this.#blockOf(id);
    const block = this.#blocks[at] ?? [];
    const rank = rankIn(block, id);
    if (block[rank] !== id) return;
    block.splice(rank, 1);
    if (block.length === 0 && this.#blocks.length > 1) this.#blocks.splice(at, 1);
  }

  /** Those behind `id`, which need not be there. The list must not change meanwhile. */
  *after(id: string): Generator<string> {
    for (let at = this.#blockOf(id); at < this.#blocks.length; at += 1) {
      const block = this.#blocks[at] ?? [];
      let rank = rankIn(block, id);
      if (block[rank] === id) rank += 1;
      for (; rank < block.length; rank += 1) yield block[rank] ?? '';
    }
  }

  /** The last block whose first string is not behind `id`; the first one if there is none. */
  #blockOf(id: string): number {
    let low = 0;
    let high = this.#blocks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#blocks[middle]?.[0] ?? '') <= id) low = middle + 1;
      else high = middle;
    }
    return Math.max(low - 1, 0);
  }
}

/** Where `id` stands, or would stand, in a sorted block. */
function rankIn(block: readonly string[], id: string): number {
  let low = 0;
  let high = block.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((block[middle] ?? '') < id) low = middle + 1;
    else high = middle;
  }
  return low;
}
