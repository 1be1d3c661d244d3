import type { ParseArgsConfig } from 'node:util';
import type { DescService } from '@bufbuild/protobuf';
import type { Client } from '../runtime/grpc-client.ts';

/** One command of the CLI, e.g. `writ token create` or `writ up`: noun first, then verb. */
export interface Verb {
  /** One to three words. */
  readonly path: readonly string[];
  /** Names of the arguments after the words, as usage shows them; `[NAME]` may be left out, `[NAME...]` repeated. */
  readonly positionals: readonly string[];
  readonly summary: string;
  readonly options: NonNullable<ParseArgsConfig['options']>;
  /** @throws Fault: its code sets the exit status */
  run(flags: Flags, io: VerbIo, positionals: readonly string[]): Promise<void>;
}

export type Flags = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;

/** What a verb may touch of the world; tests pass their own. */
export interface VerbIo {
  /** Aborts on Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  /** A service on the server's admin socket; nothing is opened before the first call. */
  admin<S extends DescService>(service: S): Client<S>;
  /** For machines: stdout. */
  out(line: string): void;
  /** For people: stderr. */
  err(line: string): void;
}

/** What a verb throws that ends as another program did: with its status, and nothing more to say. */
export class ExitStatus extends Error {
  override readonly name = 'ExitStatus';
  readonly status: number;

  constructor(status: number) {
    super(`exit status ${status}`);
    this.status = status;
  }
}

/** The value of a string option that was given at most once. */
export function textFlag(flags: Flags, name: string): string | undefined {
  const value = flags[name];
  return typeof value === 'string' ? value : undefined;
}

/** All values of an option that may be repeated. */
export function textFlags(flags: Flags, name: string): readonly string[] {
  const value = flags[name];
  const list = Array.isArray(value) ? value : value === undefined ? [] : [value];
  return list.filter((one) => typeof one === 'string');
}
