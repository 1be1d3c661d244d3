/**
 * PostgreSQL 18's own grammar: libpg_query, compiled to WebAssembly.
 *
 * Threat: a text that nests deeply uses up the stack in the middle of the parser, which then never
 * unwinds its own; after some thirty such texts it fails on every other one. So an instance that ended
 * by anything but an error of its own is thrown away, and so is one that a long text has blown up.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/** An instance of more memory is not kept: its memory never shrinks. It begins with 128 MiB. */
const MOST_KEPT_BYTES = 192 * 1024 * 1024;

/** What the generated code offers of C's functions and of memory. */
interface Instance {
  _malloc(bytes: number): number;
  _free(pointer: number): void;
  _wasm_parse_query_raw(query: number): number;
  _wasm_free_parse_result(result: number): void;
  _wasm_fingerprint(query: number): number;
  _wasm_free_string(text: number): void;
  lengthBytesUTF8(text: string): number;
  stringToUTF8(text: string, pointer: number, mostBytes: number): void;
  UTF8ToString(pointer: number): string;
  getValue(pointer: number, type: 'i32'): number;
}

/** Of the language, but in no type library for programs outside browsers. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => Instantiated;
  readonly Memory: new (size: never) => { readonly buffer: ArrayBuffer };
};
interface Instantiated {
  readonly exports: Readonly<Record<string, unknown>>;
}
type Memory = InstanceType<typeof WebAssembly.Memory>;

interface Running {
  readonly instance: Instance;
  readonly memory: Memory;
}

type Factory = (options: {
  instantiateWasm(imports: object, receive: (made: Instantiated) => void): void;
}) => Promise<Instance>;

/** The grammar does not take the text; the message is in the client's own words. */
export class SyntaxFault extends Error {}

let compiled: object | undefined;
let running: Running | undefined;
/** Takes the place of one that is thrown away, so that what comes next in the same turn is read. */
let spare: Running | undefined;

/** Loads the parser; once in a thread, before the first statement. */
export async function loadParser(): Promise<void> {
  running ??= await instantiate();
  spare ??= await instantiate();
}

/**
 * The parse trees of a text's statements, as `statement-tree.ts` reads them.
 * @throws SyntaxFault, and any other Error on what cannot be parsed for another reason
 */
export function parseStatements(sql: string): readonly unknown[] {
  const { stmts } = JSON.parse(withQuery(sql, treeOf)) as { stmts?: { stmt?: unknown }[] };
  return (stmts ?? []).map(({ stmt }) => stmt);
}

/** libpg_query's fingerprint: equal for texts that differ in literals alone. @throws Error */
export function fingerprintOf(sql: string): string {
  return withQuery(sql, (instance, query) => {
    const pointer = instance._wasm_fingerprint(query);
    const text = instance.UTF8ToString(pointer);
    instance._wasm_free_string(pointer);
    return /^[0-9a-f]{16}$/.test(text) ? text : new SyntaxFault(text);
  });
}

type Use = (instance: Instance, query: number) => string | SyntaxFault;

/** @throws what `use` returns or throws */
function withQuery(sql: string, use: Use): string {
  if (running === undefined) throw new Error('the parser is not there');
  const { instance, memory } = running;
  try {
    const bytes = instance.lengthBytesUTF8(sql) + 1;
    const query = instance._malloc(bytes);
    if (query === 0) throw new Error('the parser has no memory');
    instance.stringToUTF8(sql, query, bytes);
    const result = use(instance, query);
    instance._free(query);
    if (memory.buffer.byteLength > MOST_KEPT_BYTES) renew();
    if (result instanceof SyntaxFault) throw result;
    return result;
  } catch (error) {
    if (!(error instanceof SyntaxFault)) renew();
    throw error;
  }
}

/** Source: pg_query.h, PgQueryParseResult { char *tree, *stderr; PgQueryError *error } */
function treeOf(instance: Instance, query: number): string | SyntaxFault {
  const result = instance._wasm_parse_query_raw(query);
  if (result === 0) throw new Error('the parser has no memory');
  const error = instance.getValue(result + 8, 'i32');
  const text = error === 0 ? result : error;
  const said = instance.UTF8ToString(instance.getValue(text, 'i32'));
  instance._wasm_free_parse_result(result);
  return error === 0 ? said : new SyntaxFault(said);
}

/** A new one is there by the end of what runs now. */
function renew(): void {
  running = spare;
  spare = undefined;
  instantiate().then(
    (made) => {
      if (running === undefined) running = made;
      else spare = made;
    },
    () => undefined,
  );
}

async function instantiate(): Promise<Running> {
  const factory = require('libpg-query/wasm/libpg-query.js') as Factory;
  compiled ??= new WebAssembly.Module(
    readFileSync(require.resolve('libpg-query/wasm/libpg-query.wasm')),
  );
  const module = compiled;
  let memory: Memory | undefined;
  const instance = await factory({
    instantiateWasm: (imports, receive) => {
      const made = new WebAssembly.Instance(module, imports);
      memory = Object.values(made.exports).find(isMemory);
      receive(made);
    },
  });
  if (memory === undefined) throw new Error('the parser has no memory of its own');
  return { instance, memory };
}

function isMemory(value: unknown): value is Memory {
  return value instanceof WebAssembly.Memory;
}
