import { statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

const MAXIMUM_BYTES = 4 * 1024 * 1024;

/**
 * Names by number from a file of `/etc/passwd`'s or `/etc/group`'s form, read again when it has
 * changed. The first line of a number wins, as in getpwuid(3).
 */
export class AccountNames {
  readonly #file: string;
  #version = '';
  #names: ReadonlyMap<number, string> = new Map();

  constructor(file: string) {
    this.#file = file;
  }

  /** Undefined if the number has no name, or the file cannot be read. */
  async nameOf(id: number): Promise<string | undefined> {
    try {
      await this.#refresh();
    } catch {
      return undefined;
    }
    return this.#names.get(id);
  }

  async #refresh(): Promise<void> {
    const { ino, size, mtimeNs } = statSync(this.#file, { bigint: true });
    const version = `${ino} ${size} ${mtimeNs}`;
    if (version === this.#version) return;
    if (size > MAXIMUM_BYTES)
      throw new Error(`${this.#file} is larger than ${MAXIMUM_BYTES} bytes`);
    this.#names = parseAccounts(await readFile(this.#file, 'utf8'));
    this.#version = version;
  }
}

/** Lines of `name:password:number:...`; what has another form is passed over. */
export function parseAccounts(text: string): ReadonlyMap<number, string> {
  const names = new Map<number, string>();
  for (const line of text.split('\n')) {
    const [name, , number] = line.split(':');
    if (!name || number === undefined || !/^\d{1,10}$/.test(number)) continue;
    const id = Number(number);
    if (!names.has(id)) names.set(id, name);
  }
  return names;
}
